"""A card: one encoder judged by a panel, alongside random encoders of the same architecture."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

import medkit
from medkit.data.ledger import ROLES, digest, people, space_of
from medkit.engine.progress import Progress
from medkit.engine.runtime import Runtime
from medkit.errors import InputError
from medkit.evaluation.representations import alignment, effective_rank, jackknife, linear_cka, rankme, uniformity
from medkit.parts.window_means import dimensions_of
from medkit.protocols import Case
from medkit.recipe import Stage
from medkit.runs.card_judge import Json, Judge
from medkit.runs.encoders import NamedEncoder, named_encoder, random_like
from medkit.runs.origin import USE
from medkit.runs.panel import read_panel
from medkit.runs.workbench import Workbench


def card(
    what: str,
    panel: str,
    *,
    stage: str | None = None,
    beside: Sequence[str] = (),
    device: str | None = None,
    quiet: bool = False,
) -> Json:
    """Judge an encoder by a panel; the numbers as plain data, for JSON and the page.

    Parameters
    ----------
    what, stage:
        The encoder (:func:`medkit.runs.encoders.named_encoder`).
    panel:
        A panel's path, or the name of a bundled one.
    beside:
        Other encoders whose features are compared with its own.
    """
    begun = time.monotonic()
    runtime = Runtime.start(device=device)
    read = read_panel(panel)
    bench = Workbench(read.recipe, runtime)
    named = _of_slices(named_encoder(what, runtime, stage))
    others = [_of_slices(named_encoder(other, runtime)) for other in beside]
    randoms = [random_like(named, runtime, seed) for seed in read.looked.seeds]
    with Progress(quiet) as progress:
        judge = Judge(read, bench, progress)
        for one in read.recipe.stages:
            dataset = bench.dataset(one)
            for split in (one.train, one.validate, read.looked.test):
                if split is not None:
                    dataset.prepare_all(dataset.cases(split), jobs=bench.jobs)
        found = _judged(judge, named, others, randoms)
    about = {"medkit": medkit.__version__, "torch": torch.__version__, "use": USE, "seconds": time.monotonic() - begun}
    return {
        "format": 1,
        "date": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        **about,
        "device": runtime.description,
        "encoder": {"name": named.name, "weights": named.weights, "ledger": _ledger(named, judge)},
        "panel": {"name": read.recipe.name, "test": read.looked.test, "seeds": list(read.looked.seeds)},
        "notices": list(dict.fromkeys([*named.notices, *bench.notices()])),
        **found,
    }


def _of_slices(named: NamedEncoder) -> NamedEncoder:
    if dimensions_of(named.encoder) != 2:
        hint = "probes of it are stages of a recipe, with 'unit: volume' (docs/volumes.md)"
        raise InputError("this is an encoder of volumes, and panels judge encoders of slices", named.name, hint)
    return named


def _judged(judge: Judge, named: NamedEncoder, others: Sequence[NamedEncoder], randoms: Sequence[NamedEncoder]) -> Json:
    looked, recipe = judge.panel.looked, judge.bench.recipe
    found: Json = {"probes": [], "curves": {}, "dose": [], "center": None}
    for stage in recipe.stages:
        metric = judge.bench.metrics(stage)[0]
        about = {"stage": stage.name, "data": stage.data, "unit": stage.unit, "metric": metric.name}
        about["classifier"] = stage.objective.arguments.get("classifier", "logistic")
        about["target"] = stage.objective.arguments.get("target", "label")
        own: Any = judge.probed(named.encoder, stage)
        drawn: Any = [judge.probed(one.encoder, stage) for one in randoms]
        found["probes"].append({**about, "encoder": own, "random": drawn})
    for name in looked.curves:
        stage = recipe.stage(name)
        found["curves"][name] = {
            "metric": judge.bench.metrics(stage)[0].name,
            "encoder": judge.curve(named.encoder, stage),
            "random": judge.curve(randoms[0].encoder, stage),
        }
    for text, data in (looked.dose.get("data") or {}).items():
        own, drawn = (judge.at_dose(one.encoder, data).json() for one in (named, randoms[0]))
        found["dose"].append({"dose": text, "stage": looked.dose["stage"], "encoder": own, "random": drawn})
    if looked.center is not None:
        centers = {c.center for stage in recipe.stages if stage.data == looked.center for c in _all(judge, stage)}
        own, drawn = ([value.json() for value in judge.center(one.encoder)] for one in (named, randoms[0]))
        found["center"] = {"centers": len(centers), "encoder": own, "random": drawn}
    found["features"] = _features(judge, named, others, randoms)
    found["speed"] = judge.speed(named.encoder)
    return found


def _all(judge: Judge, stage: Stage) -> list[Case]:
    dataset = judge.bench.dataset(stage)
    return [case for split in dataset.splits for case in dataset.cases(split)]


def _features(
    judge: Judge, named: NamedEncoder, others: Sequence[NamedEncoder], randoms: Sequence[NamedEncoder]
) -> Json:
    """Collapse and similarity, of the encoder and of a random one."""
    first, second, patients = judge.features(named.encoder)
    drawn = judge.features(randoms[0].encoder)
    measures: Mapping[str, Any] = {
        "rankme": (rankme, 1),
        "effective_rank": (effective_rank, 1),
        "alignment": (alignment, 2),
        "uniformity": (uniformity, 1),
    }
    found: Json = {"slices": len(first), "n_patients": len(np.unique(patients)), "width": first.shape[1]}
    for name, (statistic, count) in measures.items():
        own, other = ((first, second)[:count], drawn[:count])
        found[name] = {
            "encoder": _interval(jackknife(statistic, own, patients.tolist())),
            "random": _interval(jackknife(statistic, other, patients.tolist())),
        }
    found["cka"] = {
        one.name: _interval(jackknife(linear_cka, (first, judge.features(one.encoder)[0]), patients.tolist()))
        for one in [*others, *randoms]
    }
    return found


def _interval(found: tuple[float, float, float]) -> Json:
    value, low, high = (None if np.isnan(one) else float(one) for one in found)
    return {"value": value, "low": low, "high": high}


def _ledger(named: NamedEncoder, judge: Judge) -> Json:
    """Whom the encoder has seen, and how many of the panel's test patients are among them."""
    if named.ledger is None:
        return {"known": False, "seen": [], "test": []}
    seen = [
        {
            "role": ROLES[e.role],
            "patients": len(e.patients),
            "images": len(e.images),
            "stage": e.stage,
            "split": e.split,
        }
        for e in named.ledger.entries
    ]
    test = []
    for data in dict.fromkeys(stage.data for stage in judge.bench.recipe.stages):
        stage = next(one for one in judge.bench.recipe.stages if one.data == data)
        dataset = judge.bench.dataset(stage)
        space = space_of(dataset.source)
        persons = people(dataset.source, dataset.cases(judge.panel.looked.test))
        mine = np.array([digest(space, person) for person in persons], np.uint64)
        known = np.zeros(len(mine), bool)
        for entry in named.ledger.entries:
            known |= entry.among(mine)
        test.append({"data": data, "patients": len(mine), "seen": int(known.sum())})
    return {"known": not named.ledger.unknown, "seen": seen, "test": test}
