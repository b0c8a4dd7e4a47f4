"""What a card measures for one encoder: probes, label curves, centres, doses, features without a task, speed."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from medkit.data.fractions import choose
from medkit.data.ledger import person_of_each
from medkit.engine.progress import Progress
from medkit.evaluation.evaluate import Request, evaluate, measured
from medkit.evaluation.measure import stack
from medkit.evaluation.results import MetricValue
from medkit.evaluation.values import value_of
from medkit.parts.metrics_multiclass import MacroRecall
from medkit.parts.probes import Items, Logistic
from medkit.protocols import Case
from medkit.recipe import Stage
from medkit.runs.cost import meter_of
from medkit.runs.fitting import Fitting, labels_of
from medkit.runs.panel import Panel
from medkit.runs.workbench import Workbench

ROWS = 1000
"""Most slices whose features are examined without a task: singular values of more take long and say the same."""
REPEATS = 5
"""The throughput is the median of this many passes."""
Json = dict[str, Any]


@dataclass
class Judge:
    """Judges encoders by a panel.

    Fitted probes are kept: a probe that was fitted to all patients serves the test at lower doses too.
    """

    panel: Panel
    bench: Workbench
    progress: Progress
    _probes: dict[tuple[int, str], Fitting] = field(default_factory=dict)

    def probe(self, encoder: nn.Module, stage: Stage) -> Fitting:
        """The probe of a stage on an encoder, unfitted when first asked for."""
        key = (id(encoder), stage.name)
        if key not in self._probes:
            objective = self.panel.objective(stage, encoder).to(self.bench.runtime.device).eval()
            self._probes[key] = Fitting(self.bench, stage, objective)
        return self._probes[key]

    def items(self, probe: Fitting, split: str) -> list[Items]:
        """Items of each case of a split, in their order."""
        cases = self.bench.dataset(probe.stage).cases(split)
        probe.compute(split, cases, self.progress)
        return [items for _, items in probe.items_of(split, cases)]

    # -- probes ------------------------------------------------------------------------------------------------------

    def probed(self, encoder: nn.Module, stage: Stage) -> Json:
        """A probe fitted to all training patients: its first metric with the interval, and what was chosen."""
        probe = self.probe(encoder, stage)
        train, validate = (Items.joined(self.items(probe, split)) for split in (stage.train, str(stage.validate)))
        choice = probe.objective.fit(train, validate, self.bench.seed(stage))
        return {**self.measured(probe, intervals=True).json(), "chosen": choice.settings}

    def measured(self, probe: Fitting, intervals: bool) -> MetricValue:
        """The first metric of a fitted probe on the panel's test split."""
        stage, split = probe.stage, self.panel.looked.test
        dataset, metrics = self.bench.dataset(stage), self.bench.metrics(stage)
        cases = dataset.cases(split)
        probe.compute(split, cases, self.progress)
        request = Request(dataset, cases, metrics, stage.name, split, stage.unit, intervals, 0, probe.of)
        found = evaluate(probe.objective, request, self.bench.runtime)
        assert found is not None
        return found.values[metrics[0].name]

    def curve(self, encoder: nn.Module, stage: Stage) -> dict[str, list[float]]:
        """The first metric by the fraction of training patients, one value per seed; settings are chosen on all of
        validation each time. Undefined where a fraction has no patient, or only one class."""
        probe = self.probe(encoder, stage)
        train, cases = self.items(probe, stage.train), self.bench.dataset(stage).cases(stage.train)
        validate = Items.joined(self.items(probe, str(stage.validate)))
        people = person_of_each(self.bench.dataset(stage).source, cases)
        labels = np.array([float(items.target.max()) if len(items) else np.nan for items in train])
        found: dict[str, list[float]] = {}
        for seed in self.panel.looked.seeds:
            for fraction in sorted(self.panel.looked.fractions):
                chosen = choose(people, labels, fraction, seed)
                some = [items for items, inside in zip(train, chosen.inside, strict=True) if inside]
                value = float("nan")
                if some and _has_classes(probe, joined := Items.joined(some)):
                    probe.objective.fit(joined, validate, self.bench.seed(stage))
                    value = self.measured(probe, intervals=False).value
                found.setdefault(f"{fraction:g}", []).append(value)
        probe.objective.fit(Items.joined(train), validate, self.bench.seed(stage))
        return found

    # -- besides the tasks --------------------------------------------------------------------------------------------

    def at_dose(self, encoder: nn.Module, data: str) -> MetricValue:
        """The probe of the dose's stage, fitted at full dose, on the same test cases from another data block."""
        stage = self.bench.recipe.stage(self.panel.looked.dose["stage"])
        probe, metric = self.probe(encoder, stage), self.bench.metrics(stage)[0]
        other = Fitting(self.bench, replace(stage, data=data), probe.objective)
        split = self.panel.looked.test
        other.compute(split, self.bench.dataset(other.stage).cases(split), self.progress)
        rows, patients = [], []
        for case in self.bench.dataset(stage).cases(split):
            # Labels are those of the scan, as a noisy image has no mask of its own.
            labels = labels_of(case, probe.features.of(case))
            features = torch.from_numpy(np.array(other.of(case))).to(self.bench.runtime.device)
            batch = {"features": features, "lengths": torch.tensor([len(features)])}
            with torch.inference_mode():
                predicted = {name: value.cpu().numpy() for name, value in probe.objective.predict(batch).items()}
            if stage.unit == "volume":
                labels = labels.max(keepdims=True)
            for i, label in enumerate(labels):
                item = {name: value[i] for name, value in predicted.items()}
                row = measured(metric, {"id": case.id, "patient": case.patient, "label": label, **item}, stage.name)
                if row is not None:
                    rows.append(row)
                    patients.append(case.patient)
        return value_of(metric, stack(rows), patients, 0, True)

    def center(self, encoder: nn.Module) -> list[MetricValue]:
        """How well the centre can be predicted from the mean features of other patients' cases, one value per seed.

        Logistic regression (C = 1) is fitted to half of each centre's patients, and predicts the others; the number is
        the mean recall over centres, whose chance level is one over their number.
        """
        assert self.panel.looked.center is not None
        stage = next(s for s in self.bench.recipe.stages if s.data == self.panel.looked.center)
        probe, dataset = self.probe(encoder, _plain(self.bench, stage)), self.bench.dataset(stage)
        cases = list({c.id: c for split in dataset.splits for c in dataset.cases(split)}.values())
        probe.features.compute(cases)
        features = np.stack([np.asarray(probe.of(case)).mean(0) for case in cases])
        names = sorted({case.center for case in cases})
        number = np.array([names.index(case.center) for case in cases], float)
        patients = np.array([case.patient for case in cases])
        found = []
        for seed in self.panel.looked.seeds:
            rng, fitted = np.random.default_rng(seed), set()
            for index in range(len(names)):
                mine = np.unique(patients[number == index])
                fitted |= set(rng.permutation(mine)[: max(1, len(mine) // 2)].tolist())
            train = np.isin(patients, sorted(fitted))
            head = Logistic(features.shape[1], max(3, len(names)), {"C": [1.0]})
            head.fit(Items(features[train], number[train]), None, seed)
            told = head(torch.from_numpy(features[~train])).numpy().argmax(1)
            rows = {"class": number[~train].astype(int), "said": told}
            found.append(value_of(MacroRecall(), rows, patients[~train].tolist(), 0, True))
        return found

    def shown(self) -> tuple[Stage, list[Case]]:
        """The stage on whose images features are examined, and its test cases."""
        looked = self.panel.looked
        stage = self.bench.recipe.stage(looked.features or self.bench.recipe.stages[0].name)
        return stage, list(self.bench.dataset(stage).cases(looked.test))

    def features(self, encoder: nn.Module) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Features of test slices, those of the same slices turned over, and whose they are."""
        stage, cases = self.shown()
        probe, dataset = self.probe(encoder, _plain(self.bench, stage)), self.bench.dataset(stage)
        probe.features.compute(cases)
        first, second, patients = [], [], []
        for case in cases:
            own = np.asarray(probe.of(case))
            images = torch.from_numpy(np.array(dataset.sample(case).image))[:, None].flip(3)
            with torch.inference_mode():
                parts = [probe.objective.encode(p.to(self.bench.runtime.device)).cpu() for p in images.split(32)]
            first.append(own)
            second.append(torch.cat(parts).numpy())
            patients += [case.patient] * len(own)
        rows = np.linspace(0, len(patients) - 1, min(ROWS, len(patients))).round().astype(int)
        return np.concatenate(first)[rows], np.concatenate(second)[rows], np.array(patients)[rows]

    def speed(self, encoder: nn.Module) -> Json:
        """Slices per second and peak memory, encoding as the panel's probes do."""
        stage, cases = self.shown()
        probe, device = self.probe(encoder, _plain(self.bench, stage)), self.bench.runtime.device
        images = torch.from_numpy(np.array(self.bench.dataset(stage).sample(cases[0]).image))[:, None]
        images = images.repeat(-(-32 // len(images)), 1, 1, 1)[:32].to(device)
        meter, seconds = meter_of(device), []
        meter.restart()
        with torch.inference_mode():
            for _ in range(REPEATS + 1):  # the first pass warms up
                begun = time.perf_counter()
                probe.objective.encode(images).cpu()
                seconds.append(time.perf_counter() - begun)
        rates = sorted(len(images) / one for one in seconds[1:])
        return {
            "slices_per_second": rates[REPEATS // 2],
            "low": rates[0],
            "high": rates[-1],
            "repeats": REPEATS,
            "image": list(images.shape[2:]),
            "peak_mb": meter.peak,
            "memory": meter.kind,
            "device": self.bench.runtime.description,
            "parameters": sum(p.numel() for p in encoder.parameters()),
        }


def _plain(bench: Workbench, stage: Stage) -> Stage:
    """A stage of the same images whose features are those of slices, not maps."""
    for other in bench.recipe.stages:
        if other.data == stage.data and other.objective.arguments.get("target", "label") == "label":
            return other
    return stage


def _has_classes(probe: Fitting, items: Items) -> bool:
    """Whether there is something to tell apart, for a probe that classifies."""
    return not probe.objective.head.classes or len(np.unique(items.target)) > 1
