"""The report of a study: one self-contained HTML file, and its numbers as CSV and JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from medkit.engine.progress import rough_duration
from medkit.errors import InputError
from medkit.evaluation import files
from medkit.evaluation.verdict_table import SEEN
from medkit.records import encoded, write_atomically
from medkit.reporting.figures_study import Effect, cost_bars, forest, label_curves, seed_dots
from medkit.reporting.page import page
from medkit.reporting.tables import SEEN_MARK, number, p_value
from medkit.studies.claim import ClaimVerdict, judged_claim
from medkit.studies.effects import conflicts, effects, plan_in
from medkit.studies.factorial import Plan
from medkit.studies.fairness import fairness_table, given_of
from medkit.studies.folder import StudyFolder
from medkit.studies.judge import Judged, changes, judged, spreads, value_rows, values_are
from medkit.studies.reader import labels
from medkit.studies.results import StudyResults, as_csv
from medkit.studies.status import FINISHED, failures
from medkit.studies.tables import Table
from medkit.studies.taken import Taken, taken, taken_apart, taken_table
from medkit.studies.versions import mixed_versions

FRACTION = "fraction"
"""The last word of an axis of label fractions."""
SAME = ("stage", "metric", "split")
"""What tells one compared number from another."""


@dataclass(frozen=True)
class Picture:
    title: str
    image: str


@dataclass(frozen=True)
class Section:
    title: str
    tables: Sequence[Table]
    pictures: Sequence[Picture] = ()


@dataclass(frozen=True)
class Written:
    """What was written: the page, the tables for a terminal, the verdicts in words."""

    path: Path
    tables: Sequence[Table]
    sentences: Sequence[str]


def write_study_report(folder: Path) -> Written:
    """Write ``report.html``, ``summary.json``, ``trials.csv`` and ``cases.csv`` into a study's folder, with what has
    been measured so far.

    Raises
    ------
    InputError
        if methods were measured on different cases.
    """
    count = max(1, len(StudyFolder.open(folder).compared()))
    each = [StudyResults.read(folder, number) for number in range(count)]
    found, about = each[0], {"libraries": {}} | dict(each[0].about)
    parts = [_compared(one) for one in each]
    given, cost = [fairness_table(given_of(found.about))], _cost(found)
    if times := taken(StudyFolder(folder)):
        given.append(taken_table(times))
    sections = [section for part in parts for section in part.sections]
    sections += [Section("Conflicts between pretexts", [_conflicts(folder)])]
    sections += [Section("What methods were given", given), Section("Cost", [cost], _cost_pictures(found))]
    claim = _claim(each, parts)
    values = [
        values_are(one) for one, part in zip(each, parts, strict=True) if any(at.verdicts for at in part.verdicts)
    ]
    text = page(
        "study.html",
        name=found.about["name"],
        about=about,
        counts=_counts(found),
        notices=found.notices,
        warnings=[*_seen(each), *_warnings(found), *taken_apart(times), *mixed_versions(StudyFolder(folder))],
        claim=claim,
        failures=failures(StudyFolder(folder), found.outcomes, found.outcomes),
        verdicts=[
            {
                "place": ", ".join(filter(None, (part.title, _place(found, one.place)))),
                "sentences": one.sentences,
            }
            for part in parts
            for one in part.verdicts
        ],
        values=list(dict.fromkeys(filter(None, values))),
        sections=[section for section in sections if any(table.rows for table in section.tables)],
        shared=_shared(found),
        study=files.read_text(folder / "study.yaml"),
        number=number,
        p_value=p_value,
    )
    _write_numbers(folder, each, parts, claim, times)
    path = folder / "report.html"
    write_atomically(path, encoded(text))
    sentences = [sentence for part in parts for one in part.verdicts for sentence in _told(found, one)]
    if claim is not None:
        sentences.insert(0, f"{claim.found}: {claim.says} ({claim.why})")
    told = " ".join(sentences)
    sentences += [line for line in _seen(each) if line not in told]
    return Written(path, [table for part in parts for table in part.tables if table.rows], sentences)


def _claim(each: Sequence[StudyResults], parts: Sequence[_Part]) -> ClaimVerdict | None:
    found = each[0]
    said = found.study.get("claim")
    if not said:
        return None
    steadier, keeps = said.get("steadier") or [], said.get("loses_less") or []
    wanted = (found.compare.get("stage"), found.compare.get("metric"), said.get("than_on"))
    before = next((one for one in each[1:] if tuple(one.compare[key] for key in SAME) == wanted), None)
    return judged_claim(
        said,
        parts[0].verdicts,
        spreads(found, steadier) if steadier else (),
        changes(found, before, keeps) if keeps and before is not None else (),
    )


@dataclass(frozen=True)
class _Part:
    """The results of one compared number: its verdicts, on methods or on the factors of a plan."""

    title: str
    metric: str
    verdicts: Sequence[Judged]
    tables: Sequence[Table]
    sections: Sequence[Section]


def _compared(found: StudyResults) -> _Part:
    plan = plan_in(found.study)
    verdicts = judged(found) if plan is None else effects(found)
    results, differences = _results(found), _effects(found, verdicts)
    if plan is not None:
        differences = replace(differences, title="each factor", note=f"{differences.note} {_confounded(plan)}")
    sections = []
    if results.rows:
        sections.append(Section(results.title, [results], _result_pictures(found)))
        sections.append(Section(f"Effects on {results.title}", [differences], _effect_pictures(found, verdicts)))
    return _Part(results.title, found.metric, verdicts, [results], sections)


def _confounded(plan: Plan) -> str:
    text = (
        f"A plan of {len(plan.signs)} runs: a factor's effect is the mean of runs with it minus that of runs without,"
        " not confounded with other factors or with interactions of two."
    )
    if aliases := plan.aliases():
        shown = "; ".join(" = ".join("×".join(pair) for pair in group) for group in aliases)
        text += f" Interactions that cannot be told apart: {shown}."
    return text


def _conflicts(folder: Path) -> Table:
    rows = [
        (" ~ ".join(one.tasks), number(one.mean), number(one.low), number(one.high), one.trainings)
        for one in sorted(conflicts(StudyFolder(folder)), key=lambda one: one.mean)
    ]
    note = "The cosine between two tasks' gradients of the encoder in the last epoch; below 0 they conflict."
    return Table("Conflicts between pretexts", ["tasks", "mean cosine", "lowest", "highest", "trainings"], rows, note)


def _write_numbers(
    folder: Path,
    each: Sequence[StudyResults],
    parts: Sequence[_Part],
    claim: ClaimVerdict | None,
    times: Sequence[Taken],
) -> None:
    """``trials.csv``, ``cases.csv`` of the first number (a table for ``medkit verdict``), ``summary.json`` of all."""
    found = each[0]
    write_atomically(folder / "trials.csv", encoded(as_csv(found.trial_rows())))
    rows = []
    for measured in found.measured:
        try:
            seen = {SEEN: " ".join(measured.seen)} if measured.seen else {}
            rows += [row | dict(measured.trial.point) | seen for row in value_rows(measured, found.metric)]
        except InputError:  # the metric has no value of a case
            continue
    write_atomically(folder / "cases.csv", encoded(as_csv(rows)))
    content = {
        "study": found.about["name"],
        **({} if claim is None else {"claim": asdict(claim)}),
        "compared": [
            {
                **{key: one.compare.get(key) for key in ("stage", "split")},
                "metric": one.metric,
                "summaries": [asdict(summary) for summary in one.summaries()],
                "verdicts": [
                    {
                        "place": list(at.place),
                        "why_not": at.why_not,
                        "missing": [asdict(one) for one in at.missing],
                        "verdicts": [v.json() for v in at.verdicts],
                    }
                    for at in part.verdicts
                ],
            }
            for one, part in zip(each, parts, strict=True)
        ],
        "conflicts": [asdict(one) for one in conflicts(StudyFolder(folder))],
        "cost": {method: {"seconds": done, "unshared": alone} for method, (done, alone) in found.cost().items()},
        "seconds": [one.json() for one in times],
        "trained_twice": found.twice(),
    }
    write_atomically(folder / "summary.json", encoded(json.dumps(_plain(content), indent=1) + "\n"))


def _plain(value: Any) -> Any:
    """Plain data without NaN, which is not JSON."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _counts(found: StudyResults) -> str:
    ended = sum(outcome.status == FINISHED for outcome in found.outcomes.values())
    return f"{ended} of {len(found.trials)} trials finished"


def _place(found: StudyResults, place: Sequence[str]) -> str:
    return labels(dict(zip(found.axes, place, strict=True)))


def _told(found: StudyResults, one: Judged) -> list[str]:
    start = f"{_place(found, one.place)}: " if one.place else ""
    return [start + sentence for sentence in one.sentences]


def _warnings(found: StudyResults) -> list[str]:
    told = [f"Trained twice although one training would have done: {line}." for line in found.twice()]
    for trial in found.trials:
        own = found.own_data.get(trial.name)
        if own is not None and not own.beaten:
            told.append(f"'{trial.name}' does not beat the trivial answer on its own training data: {own.told}.")
    for kind, reason in (found.compare.get("unequal") or {}).items():
        told.append(f"Methods are given different {kind}: {reason}")
    return told


def _seen(each: Sequence[StudyResults]) -> list[str]:
    """What the mark at numbers means: a line for each stage and split, and what it was tested on."""
    return list(dict.fromkeys(f"{SEEN_MARK} {line}" for one in each for mine in one.measured for line in mine.seen))


def _results(found: StudyResults) -> Table:
    rows = [
        (
            one.method,
            *one.place,
            number(one.mean) + (SEEN_MARK if one.seen else ""),
            "–" if one.sd is None else number(one.sd),
            number(one.low),
            number(one.high),
            one.seeds,
        )
        for one in found.summaries()
    ]
    compare = found.compare
    title = f"{found.metric} of '{compare.get('stage', '')}' on {compare.get('split', '')}"
    columns = ["method", *found.axes, "mean", "sd over seeds", "lowest", "highest", "seeds"]
    return Table(title, columns, rows)


def _effects(found: StudyResults, verdicts: Sequence[Judged]) -> Table:
    """Each method against the reference."""
    rows = [
        (
            *one.place,
            f"{v.a} − {v.b}",
            number(v.estimate) + mark,
            f"{number(v.low)}{mark} to {number(v.high)}{mark}",
            p_value(v.p_holm),
            number(v.probability),
            number(v.smallest_difference),
            f"{v.seeds} seeds, {v.patients} patients",
        )
        for one in verdicts
        for v in one.verdicts
        for mark in (SEEN_MARK if v.seen else "",)
    ]
    columns = [
        *found.axes,
        "pair",
        "difference",
        "95 % interval",
        "p (Holm)",
        "would win again",
        "could be shown",
        "from",
    ]
    note = (
        "'Would win again' is the probability that the first beats the second when both are trained once more and "
        "tested on as many new patients; 'could be shown' is the difference that 80 of 100 such studies show."
    )
    return Table("each method against the reference", columns, rows, note)


def _result_pictures(found: StudyResults) -> list[Picture]:
    """The metric over fractions of the labels, and of each seed."""
    fraction = next((i for i, axis in enumerate(found.axes) if axis.rpartition(".")[2] == FRACTION), None)
    curves: dict[str, dict[float, list[float]]] = {}
    dots: dict[str, dict[str, list[float]]] = {}
    for (method, place), values in found.values().items():
        dots.setdefault(_place(found, place), {})[method] = values
        if fraction is not None:
            others = [text for i, text in enumerate(place) if i != fraction]
            name = ", ".join([method, *others])
            curves.setdefault(name, {})[float(place[fraction])] = values
    drawn = [
        (
            "label efficiency: lines join means, bands reach from the lowest to the highest seed",
            label_curves(curves, found.metric),
        ),
        ("every training, and the mean", seed_dots(dots, found.metric)),
    ]
    return [Picture(title, image) for title, image in drawn if image]


def _effect_pictures(found: StudyResults, verdicts: Sequence[Judged]) -> list[Picture]:
    lines = [
        Effect(v.a, v.estimate, v.low, v.high, _place(found, one.place), shown=v.better is not None)
        for one in verdicts
        for v in one.verdicts
    ]
    to = "runs without it" if plan_in(found.study) else f"'{found.compare.get('reference')}'"
    title = f"difference of {found.metric} to {to}"
    image = forest(lines, title)
    return [Picture(f"{title}, with 95 % intervals over seeds and patients", image)] if image else []


def _cost_pictures(found: StudyResults) -> list[Picture]:
    image = cost_bars(found.cost()) if found.trainings else ""
    return [Picture("time of each method; in grey, the time if no stage were shared", image)] if image else []


def _cost(found: StudyResults) -> Table:
    rows = []
    for method, (done, alone) in found.cost().items():
        trials = [trial for trial in found.trials if trial.method == method]
        rows.append((method, len(trials), rough_duration(done), rough_duration(alone)))
    note = "Training and evaluation; a shared stage counts once in the first number, for every trial in the second."
    if found.elsewhere():
        note += " Stages taken from other studies count in the second only."
    return Table("cost", ["method", "trials", "measured", "if nothing were shared"], rows, note)


def _shared(found: StudyResults) -> str:
    trained = sum(not line.linked for line in found.trainings)
    elsewhere = len(found.elsewhere())
    taken = len(found.trainings) - trained - elsewhere
    twice = "none was trained twice" if not found.twice() else f"{len(found.twice())} were trained twice"
    other = f" Taken from other studies: {elsewhere}." if elsewhere else ""
    return f"{trained} stages were trained and {taken} taken from another trial under the same key; {twice}.{other}"
