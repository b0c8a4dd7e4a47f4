"""Whether a folder's search is the one that a study asks for: attempts of another one say nothing about it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from medkit.errors import InputError
from medkit.studies.folder import StudyFolder
from medkit.studies.study import Range, Study

KEPT, CHOSEN = "searched", "search"
"""Keys of ``study.json``: what was asked, and what was chosen."""
NEW = "give the changed study a new --out; --link takes stages that were trained here"


def asked(study: Study) -> dict[str, Any]:
    """What a search is, as plain data: all that its attempts and their scores depend on beside their recipes."""
    search, compare = study.search, study.compare
    assert search is not None
    assert compare is not None
    return {
        "over": {one.key: _plain(one) for one in search.ranges},
        "metric": search.metric,
        "stage": compare.stage,
        "at": dict(search.at),
        "seed": search.seed,
        "trials": search.trials,
    }


def check_begun(study: Study, folder: StudyFolder) -> None:
    """Refuse to continue a search that was begun with other words, whose attempts are known by number.

    More attempts are made as long as nothing has been chosen.

    Raises
    ------
    InputError
        naming what differs.
    """
    search, there = study.search, folder.about()
    assert search is not None
    then, now = there.get(KEPT), json.loads(json.dumps(asked(study)))
    if then is None:
        what = "search: the folder does not say what its search was begun with"
        raise InputError(what, str(folder.path), NEW)
    more = now["trials"] > then["trials"] and CHOSEN not in there
    for key, old, new in _differences(then, now):
        if key != "trials" or not more:
            what = (
                f"search.{key}: the search in the folder was begun with {_told(old)}, and this study says {_told(new)}"
            )
            marks = [str(one.mark) for one in search.ranges if key == f"over.{one.key}"]
            raise InputError(what, marks[0] if marks else str(search.mark), NEW)


def _plain(one: Range) -> Any:
    if one.choices:
        return [node.plain() for node in one.choices]
    return {"low": one.low, "high": one.high, "log": one.log, "whole": one.whole}


def _differences(then: dict[str, Any], now: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    for key in now:
        old, new = then.get(key), now[key]
        if key == "over":
            for name in dict.fromkeys([*(old or {}), *new]):
                if (old or {}).get(name) != new.get(name):
                    yield f"over.{name}", (old or {}).get(name), new.get(name)
        elif old != new:
            yield key, old, new


def _told(value: Any) -> str:
    return "nothing" if value is None else json.dumps(value, ensure_ascii=False)
