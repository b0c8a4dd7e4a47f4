"""Errors that say what is wrong, where, and what to do next.

Every error a user can cause is a :class:`MedkitError`. The command line prints it as one line, without a
traceback, and exits with ``exit_code``.
"""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable, Sequence

LONGEST = 800  # characters in a line of an error


def shortened(text: str) -> str:
    """The text with overlong lines, such as those that echo a value of kilobytes, cut in the middle."""
    if len(text) <= LONGEST:
        return text
    half = LONGEST // 2
    lines = text.split("\n")
    return "\n".join(t if len(t) <= LONGEST else f"{t[:half]} ... {t[-half:]}" for t in lines)


def visible(text: str) -> str:
    """A line of text with its control characters escaped as in Python (``\\x1b``): names of files and patients could
    otherwise change what a terminal shows."""
    return "".join(
        c if c == "\t" or unicodedata.category(c) not in ("Cc", "Zl", "Zp") else ascii(c)[1:-1] for c in text
    )


def some(names: Sequence[str], most: int = 3) -> str:
    """The first of some names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


class MedkitError(Exception):
    """Something went wrong that a person can act on.

    Parameters
    ----------
    what:
        One clause: what is wrong, with the value found.
    where:
        File (``path`` or ``path:line:column``), DICOM tag or recipe key to which the error belongs.
    hint:
        What to do next.
    """

    exit_code = 1
    secondary = False
    """Whether another of several failed ranks knows the cause."""

    def __init__(self, what: str, where: str | None = None, hint: str | None = None) -> None:
        self.what, self.where, self.hint = shortened(what), where and shortened(where), hint and shortened(hint)
        super().__init__(self.what, self.where, self.hint)

    def json(self) -> list[dict[str, str | None]]:
        """For programs: ``what``, ``where`` and ``hint`` of each error."""
        return [{"what": self.what, "where": self.where, "hint": self.hint}]

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text}; {self.hint}" if self.hint else text


class InputError(MedkitError):
    """The user's input (recipe, data, arguments) is wrong; nothing was written. Exit code 2."""

    exit_code = 2


class RunError(MedkitError):
    """A run failed after it had begun; the run folder says how far it got. Exit code 1."""


class StoppedError(MedkitError):
    """A run was asked to stop by a signal and has stopped cleanly. Exit code 130."""

    exit_code = 130


class ElsewhereError(RunError):
    """Another rank reports what is wrong; this one only ends with it, silently."""

    secondary = True

    def __init__(self, what: str = "another rank failed", exit_code: int = RunError.exit_code) -> None:
        super().__init__(what)
        self.exit_code = exit_code


class Problems(InputError):
    """Several input errors found in one pass, printed one per line."""

    def __init__(self, problems: Iterable[InputError]) -> None:
        self.problems = list({str(problem): problem for problem in problems}.values())  # each is reported once
        super().__init__("\n".join(str(problem) for problem in self.problems))
        self.what = "\n".join(str(problem) for problem in self.problems)  # each is shortened already

    def json(self) -> list[dict[str, str | None]]:
        return [one for problem in self.problems for one in problem.json()]


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    """Return ``"did you mean 'x'?"`` for the known word nearest to ``word``, or None if none is near."""
    names, word = list(known), str(word)
    if len(word) > 100:  # comparing takes time by the product of lengths, and no name is that long
        return None
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if not near and ":" not in word:
        short = {name.split(":", 1)[-1]: name for name in names}
        near = [short[found] for found in difflib.get_close_matches(word, list(short), n=1, cutoff=0.6)]
    return f"did you mean '{near[0]}'?" if near else None
