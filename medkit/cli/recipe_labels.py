"""Labels in a written recipe: what the data block declares, and heads and metrics for them."""

from __future__ import annotations

import json

import numpy as np

from medkit.data.label_kinds import MOST, numbered
from medkit.data.overview import Overview
from medkit.errors import InputError
from medkit.protocols.labels import Labels

METRICS = {
    "one_of": "[macro_auc, top1, balanced_accuracy, macro_f1]",
    "any_of": "[macro_auc, macro_ap, macro_recall, macro_specificity]",
}
COMMENTS = {
    "one_of": "one of them a case; 'ordered' in the place of 'one_of' for grades, with the head 'ordinal'",
    "any_of": "none or more of them a case",
    "unit": "what the labels are in",
}


def declared_labels(task: str, cases: Overview, column: str, unit: str | None) -> Labels | None:
    """What the data block declares for a task; None of labels of 0 and 1, or where none are learned.

    Raises
    ------
    InputError
        if a task does not take such labels.
    """
    if task == "regress" and cases.labels is not None:
        if cases.said is not None:
            hint = "classes: --task classify; or name a column of numbers by --label"
            raise InputError(f"'{column}' holds names, not measurements", str(cases.path), hint)
        return Labels("unit", unit=unit or "1", column=column)
    if task == "views" and cases.flags is not None:
        what = f"'{column}' has several classes a case, and an image has one view"
        raise InputError(what, str(cases.path), "--task classify")
    if task not in ("classify", "views") or cases.said is not None:
        return cases.said if task in ("classify", "views") else None
    known = cases.known
    if task == "views" or not len(known) or np.isin(known, (0, 1)).all():
        return None
    distinct = np.unique(known)
    if len(distinct) > MOST or (distinct != np.round(distinct)).any() or 5 * len(distinct) > len(known):
        what = f"'{column}' has {len(distinct)} different numbers among {len(known)} cases"
        raise InputError(what, str(cases.path), "a measurement: --task regress; classes repeat at least five times")
    return numbered(known, column)


def labels_line(labels: Labels) -> list[str]:
    """The data block's line."""
    return [f"    labels: {_flow(labels.plain())}    # {COMMENTS[labels.kind]}"]


def classifier_lines(labels: Labels, flat: bool) -> list[str]:
    """The objective that learns the classes of single images (``flat``), or of volumes."""
    if flat:
        several = labels.kind == "any_of"
        head = "multilabel" if several else "classification"
        rare = "    # positive_weight: {NAME: 3} counts its rare cases more" if several else ""
        return [
            "      use: multitask",
            "      encoder: {use: timm, model: resnet10t}    # small, for a first look",
            f"      heads: {{cls: {{use: {head}, dropout: 0.2}}}}{rare}",
        ]
    return [
        "      use: volume            # slices go through the encoder, an LSTM reads them in order",
        "      encoder: {use: timm, model: resnet10t, depth: 4}    # small, for a first look",
        '      operator: {use: "smartnet:lstm_classifier", hidden: 128}',
        "      losses: {labels: {use: labels}}    # what the declared labels ask for",
        "      slices_at_once: 32     # fewer take less memory; the numbers stay the same",
    ]


def counts_there(cases: Overview, labels: Labels, folds: list[str]) -> list[int]:
    """How many cases of the folds have each class."""
    inside = np.array([fold in folds for fold in cases.fold_of])
    if cases.flags is not None:
        return np.nansum(cases.flags[inside], 0).astype(int).tolist()
    values = _codes(cases, labels)[inside]
    return [int((values == number).sum()) for number in range(len(labels))]


def counts_in_words(cases: Overview, labels: Labels) -> str:
    """``12 are normal, 5 are fracture, and 2 have no label``."""
    if cases.flags is not None:
        counts = np.nansum(cases.flags, 0).astype(int).tolist()
        missing = int(np.isnan(cases.flags).all(1).sum())
    else:
        values = _codes(cases, labels)
        counts = [int((values == number).sum()) for number in range(len(labels))]
        missing = int(np.isnan(values).sum())
    verb = "have" if cases.flags is not None else "are"
    said = ", ".join(f"{count} {verb} {name}" for name, count in zip(labels.names, counts, strict=True))
    return f"{said}{f', and {missing} have no label' if missing else ''}"


def _codes(cases: Overview, labels: Labels) -> np.ndarray:
    assert cases.labels is not None
    if cases.said is not None:
        return cases.labels
    return np.array([labels.number(value) for value in cases.labels.tolist()])


def _flow(plain: object) -> str:
    """Plain data as YAML in one line."""
    if isinstance(plain, dict):
        return "{" + ", ".join(f"{_flow(key)}: {_flow(value)}" for key, value in plain.items()) + "}"
    if isinstance(plain, list):
        return "[" + ", ".join(map(_flow, plain)) + "]"
    text = str(plain).replace("${", "$${")
    plainly = text.isascii() and text.isidentifier() and text.lower() not in ("null", "true", "false")
    return text if plainly else json.dumps(text, ensure_ascii=False)
