"""What is fitted to features of a frozen encoder: k nearest neighbours, logistic and linear classifiers, ridge.

Each is fitted once for every setting of its grid on training items, and the setting whose predictions for validation
items have the lowest mean squared error is kept: for probabilities that is the Brier score (Brier, Monthly Weather
Review 1950), a proper score defined for all of them, even with one class in the validation split. Among equals the
first in the grid is kept. Nothing is fitted to validation items.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from medkit.errors import InputError, did_you_mean

Settings = dict[str, float]
State = dict[str, Tensor]


@dataclass(frozen=True)
class Items:
    """What a probe is fitted to.

    Attributes
    ----------
    features:
        (n,F) float32.
    target:
        (n,) the number of the class; a value; or in [0,1] the share of a map's cell that a mask covers.
    weight:
        (n,) how often each item counts; None: once.
    """

    features: np.ndarray
    target: np.ndarray
    weight: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.target)

    @classmethod
    def joined(cls, parts: Sequence[Items]) -> Items:
        """The items of all parts, one after another."""
        weights = [part.weight for part in parts if part.weight is not None]
        weight: np.ndarray | None = np.concatenate(weights) if len(weights) == len(parts) else None
        return cls(np.concatenate([p.features for p in parts]), np.concatenate([p.target for p in parts]), weight)


@dataclass(frozen=True)
class Choice:
    """The setting that was kept, and all that were tried with their mean squared errors on the validation items.

    ``error`` is None if nothing was validated, because there was only one setting.
    """

    settings: Settings
    error: float | None
    tried: Sequence[Mapping[str, float]] = field(default=())

    def told(self) -> str:
        """``C = 1``."""
        return ", ".join(f"{name} = {value:g}" for name, value in self.settings.items())


class FeatureProbe(nn.Module):
    """What is fitted to (n,F) features; its buffers hold everything that it has learned.

    Parameters
    ----------
    width:
        F.
    classes:
        2: outputs are (n,1), the probability of class 1. More: (n,classes) probabilities. 0: (n,1) values.
    grid:
        Settings to try by name, in place of those in ``GRID``.
    """

    GRID: ClassVar[Mapping[str, Sequence[float]]]

    def __init__(self, width: int, classes: int, grid: Mapping[str, Sequence[float]] | None = None) -> None:
        super().__init__()
        self.width, self.classes = width, classes
        self.outputs = max(1, classes) if classes != 2 else 1
        grid = dict(grid or {})
        for name, values in grid.items():
            if name not in self.GRID:
                hint = did_you_mean(name, self.GRID) or f"it has: {', '.join(self.GRID)}"
                raise InputError(f"the grid has '{name}', which this classifier does not know", hint=hint)
            if not values:
                raise InputError(
                    f"the grid has no value for '{name}'", "grid", "give at least one; leave it out for defaults"
                )
            for value in values:
                self.check_setting(name, value)
        self.grid = {name: list(grid.get(name, values)) for name, values in self.GRID.items()}
        for name, tensor in self.unfitted().items():
            self.register_buffer(name, tensor)

    def check_setting(self, name: str, value: float) -> None:
        """Refuse a value that ``name`` cannot have."""
        if not value > 0:
            raise InputError(f"'{name}' must be more than 0, not {value:g}")

    @abstractmethod
    def unfitted(self) -> State:
        """Buffers of one that is not fitted yet; it gives all classes the same probability."""

    @abstractmethod
    def states(self, train: Items, settings: Sequence[Settings], seed: int) -> Iterator[State]:
        """Buffers fitted to ``train``, for each of ``settings``."""

    @abstractmethod
    def outputs_of(self, state: Mapping[str, Tensor], features: Tensor) -> Tensor:
        """(n,outputs) of (n,F) features, in double precision."""

    def forward(self, features: Tensor) -> Tensor:
        return self.outputs_of(dict(self.named_buffers()), features).float()

    def make_room(self, weights: Mapping[str, Tensor]) -> None:
        """Adopt the shapes of weights that are about to be loaded: some depend on the items fitted to."""
        for name, buffer in self.named_buffers():
            if name in weights and weights[name].dim() == buffer.dim():
                setattr(self, name, torch.zeros_like(weights[name], device=buffer.device, dtype=buffer.dtype))

    def fit(self, train: Items, validate: Items | None, seed: int) -> Choice:
        """Fit all settings of the grid to ``train`` and keep the one that does best on ``validate``.

        Raises
        ------
        InputError
            if there is nothing to fit to or to choose by, or features are not finite numbers.
        """
        settings = self.settings(len(train))
        if len(settings) > 1 and (validate is None or not len(validate)):
            what = f"there are {len(settings)} settings to try, and no validation items to choose one by"
            raise InputError(what, hint="name a split to validate on, or give the grid one value of each")
        self._check(train)
        best: tuple[float, Settings, State] | None = None
        tried = []
        for chosen, state in zip(settings, self.states(train, settings, seed), strict=True):
            if len(settings) == 1:
                self._take(state)
                return Choice(chosen, self._error(state, validate) if validate is not None and len(validate) else None)
            assert validate is not None
            error = self._error(state, validate)
            tried.append({**chosen, "error": error})
            if best is None or error < best[0] or np.isnan(best[0]):
                best = error, chosen, state
        assert best is not None
        self._take(best[2])
        return Choice(best[1], best[0], tried)

    def settings(self, items: int) -> list[Settings]:
        """All settings of the grid, for so many training items."""
        return [dict(zip(self.grid, values, strict=True)) for values in product(*self.grid.values())]

    @property
    def chooses(self) -> bool:
        """Whether there is more than one setting to choose from."""
        return any(len(values) > 1 for values in self.grid.values())

    def _check(self, train: Items) -> None:
        if not len(train):
            raise InputError(
                "there is no labelled item to fit to", hint="a probe is fitted to labelled cases of 'train'"
            )
        if not np.isfinite(train.features).all():
            raise InputError("some features are not finite (NaN or infinite)", hint="the encoder has diverged")
        if self.classes and train.weight is None:
            numbers = np.unique(train.target)
            strange = [n for n in numbers.tolist() if n != int(n) or not 0 <= n < self.classes]
            if strange:
                what = f"a label is {strange[0]:g}, which is not a class from 0 to {self.classes - 1}"
                raise InputError(what, hint="'classes' has to match the labels; for values write 'classifier: ridge'")
            if len(numbers) == 1:
                raise InputError(
                    f"all {len(train)} training items are of class {numbers[0]:g}: there is nothing to tell apart"
                )

    def _take(self, state: State) -> None:
        for name, value in state.items():
            setattr(self, name, value.to(getattr(self, name).device))

    def _error(self, state: State, items: Items) -> float:
        """Mean squared error: of values, or of the probabilities of all classes (of class 1 if there are two)."""
        target = torch.from_numpy(np.asarray(items.target, np.float64))
        found = torch.cat([self.outputs_of(state, part) for part in torch.from_numpy(items.features).split(4096)])
        wanted = nn.functional.one_hot(target.long(), self.classes) if self.classes > 2 else target[:, None]
        each = (found - wanted).square().sum(1)
        if items.weight is None:
            return float(each.mean())
        weight = torch.from_numpy(np.asarray(items.weight, np.float64))
        return float((each * weight).sum() / weight.sum())


class Neighbours(FeatureProbe):
    """k nearest neighbours by the cosine of features; each of them has one vote.

    Equal to scikit-learn's ``KNeighborsClassifier(n_neighbors=k, metric="cosine")``.
    """

    GRID = {"k": (1, 5, 10, 20, 50, 100)}

    def check_setting(self, name: str, value: float) -> None:
        if value < 1 or value != int(value):
            raise InputError(f"'k' must be a whole number of neighbours, not {value:g}")

    def unfitted(self) -> State:
        bank, labels = torch.zeros(0, self.width), torch.zeros(0, dtype=torch.int64)
        return {"bank": bank, "labels": labels, "k": torch.zeros((), dtype=torch.int64)}

    def settings(self, items: int) -> list[Settings]:
        """More neighbours than items cannot be asked; the smallest number is tried with all there are."""
        possible = [k for k in self.grid["k"] if k <= items] or [float(min(items, min(self.grid["k"])))]
        return [{"k": int(k)} for k in possible]

    def states(self, train: Items, settings: Sequence[Settings], seed: int) -> Iterator[State]:
        bank = nn.functional.normalize(torch.from_numpy(train.features))
        labels = torch.from_numpy(train.target.astype(np.int64))
        return ({"bank": bank, "labels": labels, "k": torch.tensor(int(s["k"]))} for s in settings)

    def outputs_of(self, state: Mapping[str, Tensor], features: Tensor) -> Tensor:
        bank, labels = state["bank"], state["labels"]
        classes = max(2, self.classes)
        if not len(bank):
            shares = torch.full((len(features), classes), 1 / classes, dtype=torch.float64, device=features.device)
        else:
            likeness = nn.functional.normalize(features.to(bank.dtype)) @ bank.T
            nearest = labels[likeness.topk(int(state["k"])).indices]
            shares = nn.functional.one_hot(nearest, classes).double().mean(1)
        return shares if self.outputs > 1 else shares[:, 1:]


class Affine(FeatureProbe):
    """One layer on standardized features: ``(x - mean) / deviation`` of the training items, then weights and bias."""

    def unfitted(self) -> State:
        return {
            "mean": torch.zeros(self.width, dtype=torch.float64),
            "deviation": torch.ones(self.width, dtype=torch.float64),
            "weight": torch.zeros(self.outputs, self.width, dtype=torch.float64),
            "bias": torch.zeros(self.outputs, dtype=torch.float64),
        }

    def outputs_of(self, state: Mapping[str, Tensor], features: Tensor) -> Tensor:
        standard = (features.double() - state["mean"]) / state["deviation"]
        logits = standard @ state["weight"].T + state["bias"]
        if not self.classes:
            return logits
        return torch.softmax(logits, 1) if self.outputs > 1 else torch.sigmoid(logits)

    @staticmethod
    def standardized(train: Items) -> tuple[np.ndarray, State]:
        """Training features with mean 0 and deviation 1, in double precision, and what made them so."""
        features = train.features.astype(np.float64)
        mean, deviation = features.mean(0), features.std(0)
        deviation[deviation == 0] = 1.0
        features -= mean
        features /= deviation
        return features, {"mean": torch.from_numpy(mean), "deviation": torch.from_numpy(deviation)}


class Logistic(Affine):
    """Logistic regression with an L2 penalty, by scikit-learn (L-BFGS); multinomial for several classes."""

    GRID = {"C": (1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0)}

    def states(self, train: Items, settings: Sequence[Settings], seed: int) -> Iterator[State]:
        from sklearn.linear_model import LogisticRegression

        features, scale = self.standardized(train)
        for chosen in settings:
            fitted = LogisticRegression(C=chosen["C"], tol=1e-6, max_iter=10_000).fit(features, train.target)
            state = {**self.unfitted(), **scale}
            if self.outputs == 1:
                state["weight"], state["bias"] = torch.from_numpy(fitted.coef_), torch.from_numpy(fitted.intercept_)
            elif len(fitted.classes_) == 2:
                # One logit if two classes occur: the other's is 0. Classes that do not occur get no chance.
                self._place(state, fitted.classes_, np.stack([0 * fitted.coef_[0], fitted.coef_[0]]))
                state["bias"][int(fitted.classes_[1])] = float(fitted.intercept_[0])
            else:
                self._place(state, fitted.classes_, fitted.coef_)
                state["bias"][fitted.classes_.astype(int)] = torch.from_numpy(fitted.intercept_)
            yield state

    @staticmethod
    def _place(state: State, classes: np.ndarray, weight: np.ndarray) -> None:
        numbers = classes.astype(int)
        state["bias"] = torch.full_like(state["bias"], -torch.inf)
        state["bias"][numbers] = 0.0
        state["weight"][numbers] = torch.from_numpy(weight)


class Ridge(Affine):
    """Linear regression of a value with an L2 penalty, by scikit-learn."""

    GRID = {"alpha": (0.01, 0.1, 1.0, 10.0, 100.0, 1e3, 1e4)}

    def states(self, train: Items, settings: Sequence[Settings], seed: int) -> Iterator[State]:
        from sklearn.linear_model import Ridge as Regression

        features, scale = self.standardized(train)
        for chosen in settings:
            fitted = Regression(alpha=chosen["alpha"], solver="cholesky").fit(features, train.target)
            weight, bias = torch.from_numpy(fitted.coef_)[None], torch.tensor([fitted.intercept_])
            yield {**scale, "weight": weight, "bias": bias.double()}


class Linear(Affine):
    """One linear layer trained by stochastic gradient descent, all settings at once on the same batches.

    Momentum 0.9, cosine decay of the rate to 0; cross-entropy, for shares of a mask too. Weights begin at 0; the order
    of items comes from the seed.

    Parameters
    ----------
    steps, batch:
        Steps, and items in each.
    """

    GRID = {"lr": (1e-3, 1e-2, 0.1, 1.0), "weight_decay": (0.0, 1e-4, 1e-2)}
    MOMENTUM = 0.9

    def __init__(
        self,
        width: int,
        classes: int,
        grid: Mapping[str, Sequence[float]] | None = None,
        steps: int = 1000,
        batch: int = 256,
    ) -> None:
        super().__init__(width, classes, grid)
        self.steps, self.batch = steps, batch

    def check_setting(self, name: str, value: float) -> None:
        if name != "weight_decay" or value < 0:
            super().check_setting(name, value)

    def states(self, train: Items, settings: Sequence[Settings], seed: int) -> Iterator[State]:
        double, scale = self.standardized(train)
        features = torch.from_numpy(double.astype(np.float32))
        del double
        weight = None if train.weight is None else torch.from_numpy(np.asarray(train.weight, np.float32))
        target = torch.from_numpy(np.asarray(train.target, np.float32))
        if self.outputs > 1:
            target = nn.functional.one_hot(target.long(), self.classes).float()
        else:
            target = target[:, None]
        rates, decays = (torch.tensor([s[name] for s in settings])[:, None, None] for name in ("lr", "weight_decay"))
        # (settings, F + 1, outputs): the last row is the bias.
        layers = torch.zeros(len(settings), self.width + 1, self.outputs)
        moments = torch.zeros_like(layers)
        penalty = torch.ones(self.width + 1, 1)
        penalty[-1] = 0.0
        for step, chosen in enumerate(_batches(len(train), min(self.batch, len(train)), self.steps, seed)):
            x, y = features[chosen], target[chosen]
            logits = x @ layers[:, :-1] + layers[:, -1:]
            found = torch.softmax(logits, 2) if self.outputs > 1 else torch.sigmoid(logits)
            slope = (found - y) / len(chosen)  # of the cross-entropy, for sigmoid and softmax alike
            if weight is not None:
                slope = slope * (weight[chosen] / weight.mean())[:, None]
            gradient = torch.cat([x.T @ slope, slope.sum(1, keepdim=True)], 1) + decays * penalty * layers
            moments = self.MOMENTUM * moments + gradient
            layers = layers - rates * (0.5 + 0.5 * np.cos(np.pi * step / self.steps)) * moments
        for layer in layers.double():
            yield {**scale, "weight": layer[:-1].T.contiguous(), "bias": layer[-1].clone()}


def _batches(items: int, size: int, steps: int, seed: int) -> Iterator[Tensor]:
    """Indices of each step: all items in a new order, again and again; what is left over is not used."""
    generator, step = torch.Generator().manual_seed(seed), 0
    while step < steps:
        for chosen in torch.randperm(items, generator=generator)[: items // size * size].split(size):
            if step < steps:
                yield chosen
                step += 1


PROBES: Mapping[str, Any] = {"knn": Neighbours, "logistic": Logistic, "linear": Linear, "ridge": Ridge}
"""Probes by the names that recipes use for them."""
