"""A card as a page: one self-contained HTML file of what was measured about an encoder, and its numbers as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medkit.data.whole import whole_folder
from medkit.records import encoded
from medkit.reporting.figures_study import label_curves
from medkit.reporting.page import page
from medkit.reporting.report_sections import Picture
from medkit.reporting.tables import number

Json = Mapping[str, Any]
ENCODER, RANDOM = "this encoder", "random"


@dataclass(frozen=True)
class CardSection:
    """A table of the page; a cell is a text, or a number with the lines under it."""

    title: str
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[Any]] = ()
    notes: Sequence[str] = ()
    pictures: Sequence[Picture] = ()


def write_card(folder: Path, card: Json) -> Path:
    """Write ``card.html`` and ``card.json`` into the new folder ``folder``, both or none; return the page's path.

    Raises
    ------
    InputError
        if the folder exists.
    """
    with whole_folder(folder) as temporary:
        temporary.joinpath("card.json").write_text(json.dumps(_plain(card), indent=1) + "\n", encoding="utf-8")
        temporary.joinpath("card.html").write_bytes(encoded(card_page(card)))
    return folder / "card.html"


def card_page(card: Json) -> str:
    """The page."""
    sections = [_probes(card), *_curves(card), *_dose(card), *_center(card), _features(card), _likeness(card)]
    minutes = f"{card['seconds'] / 60:.1f}"
    found = [*sections, _cost(card), _ledger(card)]
    return page("card.html", card=card, warnings=_warnings(card), sections=found, minutes=minutes)


def _plain(value: Any) -> Any:
    """The same, with None for numbers that JSON cannot express."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _warnings(card: Json) -> list[str]:
    ledger = card["encoder"]["ledger"]
    met = [one for one in ledger["test"] if one["seen"]]
    found = [
        f"{one['seen']} of {one['patients']} test patients of '{one['data']}' were seen when this encoder was trained: "
        "its numbers there do not test new patients."
        for one in met
    ]
    if not ledger["known"]:
        found.append("It is unknown whom these weights were trained on.")
    return found


def _number(value: Any) -> str:
    return "–" if value is None else number(value)


def _cell(found: Json) -> tuple[str, ...]:
    """A number with its interval and counts."""
    low, high = found.get("low"), found.get("high")
    ends = "no interval" if low is None or high is None else f"{_number(low)} to {_number(high)}"
    counts = (f"{found['n']} {found['counted']}, {found['n_patients']} patients",) if "n_patients" in found else ()
    chosen = found.get("chosen")
    chosen = (", ".join(f"{name} = {value:g}" for name, value in chosen.items()),) if chosen else ()
    return (_number(found["value"]), ends, *counts, *chosen)


def _over_seeds(found: Sequence[Json]) -> tuple[str, ...]:
    """The mean over seeds, with the lowest and highest, and the first one's interval."""
    values = [one["value"] for one in found if one["value"] is not None]
    if not values:
        return ("–",)
    if len(found) == 1:
        return (*_cell(found[0]), "1 seed")
    first = _cell(found[0])
    spread = f"{number(min(values))} to {number(max(values))} over {len(values)} seeds"
    return (number(float(np.mean(values))), spread, f"first seed: {first[0]}, {first[1]}", *first[2:3])


def _arrow(higher: bool) -> str:
    return "↑" if higher else "↓"


def _probes(card: Json) -> CardSection:
    rows = [
        [
            one["stage"],
            f"{one['unit']}, {one['target']}, {one['classifier']}",
            f"{one['metric']}{' (' + one['encoder']['unit'] + ')' if one['encoder']['unit'] else ''} "
            f"{_arrow(one['encoder']['higher_is_better'])}",
            _cell(one["encoder"]),
            _over_seeds(one["random"]),
        ]
        for one in card["probes"]
    ]
    notes = ["95 % intervals over patients. Among probes of one encoder, only 'linear' is random."]
    return CardSection("Probes", ["task", "probe of", "metric", ENCODER, RANDOM], rows, notes)


def _curves(card: Json) -> list[CardSection]:
    found = []
    for stage, curve in card["curves"].items():
        values = {
            name: {float(fraction): [np.nan if v is None else v for v in each] for fraction, each in curve[key].items()}
            for name, key in ((ENCODER, "encoder"), (RANDOM, "random"))
        }
        drawn = label_curves(values, curve["metric"])
        rows = [
            [f"{100 * fraction:g} %", *(_spread(values[name][fraction]) for name in (ENCODER, RANDOM))]
            for fraction in values[ENCODER]
        ]
        notes = ["Fractions of the training patients, nested and stratified by label; each seed draws other patients."]
        title = f"{curve['metric']} by labelled patients"
        pictures = [Picture(title, drawn, "curve", title)] if drawn else []
        columns = ["labelled patients", ENCODER, RANDOM]
        found.append(CardSection(f"Label efficiency: {stage}", columns, rows, notes, pictures))
    return found


def _spread(values: Sequence[float]) -> tuple[str, ...]:
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return ("–", "one class only")
    return (number(float(np.mean(known))), f"{number(min(known))} to {number(max(known))} over {len(known)} seeds")


def _dose(card: Json) -> list[CardSection]:
    if not card["dose"]:
        return []
    rows = [[one["dose"], _cell(one["encoder"]), _cell(one["random"])] for one in card["dose"]]
    stage = card["dose"][0]["stage"]
    notes = [
        f"The probe '{stage}', fitted at full dose, on the same test cases with simulated noise; random: first seed."
    ]
    return [CardSection("Robustness to dose", ["dose", ENCODER, RANDOM], rows, notes)]


def _center(card: Json) -> list[CardSection]:
    found = card["center"]
    if found is None:
        return []
    rows = [["mean recall over centres", _over_seeds(found["encoder"]), _over_seeds(found["random"])]]
    chance = 1 / found["centers"]
    notes = [
        f"Logistic regression of the centre from mean features of a case; chance is {number(chance)} for "
        f"{found['centers']} centres. Each seed splits every centre's patients into halves. Lower means that features "
        "say less about where an image comes from."
    ]
    return [CardSection("Can the centre be read?", ["", ENCODER, RANDOM], rows, notes)]


NAMES = {
    "rankme": "RankMe",
    "effective_rank": "effective rank, centred",
    "alignment": "alignment with the flipped slice ↓",
    "uniformity": "uniformity ↓",
}


def _features(card: Json) -> CardSection:
    found = card["features"]
    rows = [[text, *(_cell(found[name][key]) for key in ("encoder", "random"))] for name, text in NAMES.items()]
    notes = [
        f"Of {found['width']} features of {found['slices']} test slices of {found['n_patients']} patients; random: "
        "first seed. A rank near 1 is collapse. 95 % intervals by leaving out a tenth of the patients at a time."
    ]
    return CardSection("Features without a task", ["", ENCODER, RANDOM], rows, notes)


def _likeness(card: Json) -> CardSection:
    rows = [[name, _cell(value)] for name, value in card["features"]["cka"].items()]
    notes = [
        f"Linear CKA on the same slices of {card['features']['n_patients']} patients: 1 is the same up to rotation."
    ]
    return CardSection("Likeness to other encoders", ["encoder", "CKA"], rows, notes)


def _cost(card: Json) -> CardSection:
    speed = card["speed"]
    sides = " x ".join(map(str, speed["image"]))
    peak = "–" if speed["peak_mb"] is None else f"{speed['peak_mb']:,.0f} MB"
    rows = [
        [
            (f"{speed['slices_per_second']:,.0f}", f"{speed['low']:,.0f} to {speed['high']:,.0f}"),
            peak,
            f"{speed['parameters']:,}",
        ]
    ]
    notes = [
        f"Slices of {sides} in batches of 32 on {speed['device']}: median and range of {speed['repeats']} passes. "
        f"Memory is the peak of this {'process' if speed['memory'] == 'process' else 'GPU'}."
    ]
    return CardSection("Cost", ["slices per second", "memory", "parameters"], rows, notes)


def _ledger(card: Json) -> CardSection:
    ledger = card["encoder"]["ledger"]
    rows = [
        [
            f"{one['stage'] or 'weights it starts from'} ({one['split']})",
            one["role"],
            str(one["patients"]),
            str(one["images"]),
        ]
        for one in ledger["seen"]
    ]
    notes = [
        f"{one['seen']} of {one['patients']} test patients of '{one['data']}' are among them." for one in ledger["test"]
    ]
    if ledger["known"] and not ledger["seen"]:
        notes.insert(0, "These weights have seen nobody.")
    return CardSection("Who was seen", ["in", "", "patients", "images"], rows, notes)
