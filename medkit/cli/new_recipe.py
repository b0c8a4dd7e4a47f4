"""``medkit new recipe``: a commented recipe whose values come from a manifest."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from medkit.cli.recipe_batch import batch_size
from medkit.cli.recipe_labels import (
    METRICS,
    classifier_lines,
    counts_in_words,
    counts_there,
    declared_labels,
    labels_line,
)
from medkit.data.overview import Overview, overview
from medkit.data.whole import whole_file
from medkit.errors import InputError, did_you_mean

STEPS = 1500
"""Optimizer steps that training aims at, as far as that takes no more than a hundred epochs."""
FEWEST = 3
"""Validation cases of each class from which on a metric may choose the epoch."""
HEAD_MM = 300
"""A field of view below which CT is taken for that of a head."""
LARGEST, FLAT_LARGEST = 256, 224
TASKS = ("segment", "classify", "regress", "denoise", "views")


def write_recipe(
    task: str,
    manifest: Path,
    out: Path,
    *,
    label: str = "label",
    fold: str = "fold",
    size: int | None = None,
    unit: str | None = None,
) -> Path:
    """Write a recipe for the cases of a manifest, and return where it is.

    ``label`` is a column, or several of 0 and 1 that commas separate; ``unit`` is that of the labels of a regression.

    Raises
    ------
    InputError
        if the manifest lacks what the task needs: a column of folds, masks, labels or targets.
    """
    if task not in TASKS:
        raise InputError(f"'{task}' is no task", "--task", did_you_mean(task, TASKS) or f"tasks: {', '.join(TASKS)}")
    if out.suffix not in (".yaml", ".yml"):
        raise InputError("a recipe ends in .yaml", str(out))
    from medkit.recipe import load_recipe
    from medkit.recipe.seen import check_seen

    cases = overview(Path(manifest), label, fold)
    if unit is not None and task != "regress":
        raise InputError(f"labels to {task} have no unit", "--unit", "leave it out")
    text = _Recipe(task, cases, (label, unit), fold, size, out).text()
    with whole_file(out) as temporary:
        temporary.write_text(text, encoding="utf-8")
        check_seen(load_recipe(temporary))
    return out


class _Recipe:
    """The parts of one recipe as text."""

    def __init__(
        self, task: str, cases: Overview, label: tuple[str, str | None], fold: str, size: int | None, out: Path
    ) -> None:
        self.task, self.cases, (self.label, unit), self.fold, self.out = task, cases, label, fold, out
        self.declared = declared_labels(task, cases, self.label, unit)
        self.has_label = cases.labels is not None and cases.said is None
        self.splits = self._splits()
        largest = FLAT_LARGEST if cases.flat else LARGEST
        usual = int(np.median(np.minimum(cases.rows, cases.columns)))
        self.side = size or max(64, min(largest, usual // 32 * 32))
        train = sum(cases.folds[name] for name in self.splits["train"])
        self.train = max(1, train)

    def text(self) -> str:
        stage: Callable[[], str] = getattr(self, f"_{self.task}")
        body = stage()  # first, for it refuses what the manifest lacks
        return "\n".join([*self._head(), *self._data(), "stages:", body.rstrip(), *self._report(), ""])

    def _head(self) -> list[str]:
        cases = self.cases
        masks = f", {cases.masks} with a mask" if cases.masks else ""
        return [
            f"# {self.task}: {len(cases)} cases of {cases.patients} patients{masks}, from {cases.path.name}.",
            "# Written by 'medkit new recipe'; every value may be changed. docs/recipes.md explains all keys,",
            "# 'medkit show NAME' a component, and 'medkit check FILE --data' reads every image once before you train.",
            "medkit: 1",
            f"name: {self.task}",
            "seed: 42                 # weights, order and augmentation come from it: the same run twice is the same",
        ]

    # -- data --------------------------------------------------------------------------------------------------------

    def _splits(self) -> dict[str, list[str]]:
        there = self.cases.folds
        if {"train", "val", "test"} <= there.keys():
            return {name: [name] for name in ("train", "val", "test")}
        if all(name.isdecimal() for name in there) and len(there) >= 3:
            order = sorted(there, key=int)
            return {"train": order[:-2], "val": order[-2:-1], "test": order[-1:]}
        hint = "'medkit data split' writes train, val and test, or --folds 3 and more"
        raise InputError(f"folds {', '.join(sorted(there)[:6])} are no train, val and test",
                         str(self.cases.path), hint)  # fmt: skip

    def _data(self) -> list[str]:
        path = os.path.relpath(self.cases.path.resolve(), self.out.resolve().parent)
        source = [f'path: "{path}"', *([f"fold: {self.fold}"] if self.fold != "fold" else [])]
        numbers = self.has_label and self.declared is None and self.task != "denoise"
        source += [f"label: {self.label}"] if numbers else []
        source += ["case: case"] if "case" in self.cases.columns_there else []
        if self.task == "segment" and self.cases.masks < len(self.cases) and not self.has_label:
            source.append("no_mask: unlabelled")
        named = [f"{name}: {{fold: {_folds(folds)}}}" for name, folds in self.splits.items()]
        counts = ", ".join(f"{name} {sum(self.cases.folds[f] for f in folds)}" for name, folds in self.splits.items())
        lines = [
            "data:",
            "  cases:",
            f"    source: {{use: manifest, {', '.join(source)}}}",
            f"    # Cases: {counts}. No patient may be in two of them. Train learns, val chooses the epoch,",
            "    # and test is looked at once, at the end.",
            f"    splits: {{{', '.join(named)}}}",
            *(labels_line(self.declared) if self.declared is not None else []),
            *self._prepare(),
        ]
        return lines

    def _prepare(self) -> list[str]:
        cases = self.cases
        sizes = sorted({(int(r), int(c)) for r, c in zip(cases.rows, cases.columns, strict=True)})
        shapes = f"{sizes[0][0]}x{sizes[0][1]}" + (f" to {sizes[-1][0]}x{sizes[-1][1]}" if len(sizes) > 1 else "")
        mm = cases.pixel_mm[~np.isnan(cases.pixel_mm)]
        ends = list(dict.fromkeys(f"{end:.3g}" for end in (mm.min(), mm.max()))) if len(mm) else []
        said = f"pixels of {' to '.join(ends)} mm" if ends else "pixels of unknown size"
        side = self.side if self.task != "denoise" else sizes[-1][0]
        space = f"{max(1, round(cases.slices.sum() * side**2 * 4 / 2**20)):,} MiB"
        lines = [f"    # Images are {shapes}, with {said}; prepared, they take about {space} ($MEDKIT_CACHE)."]
        window = self._window()
        if self.task == "denoise":
            lines.append(
                "    # One window and no resize: 'medkit predict' writes the cleaned values back in the images' units."
            )
            return [*lines, f"    prepare: [{window}]", "    augment: [{use: dihedral}]"]
        square = all(rows == columns for rows, columns in sizes)
        resize = "resize" if square else "pad_resize"
        first = window if cases.hu else "{use: clip_percentiles}"
        lines.append(
            "    # HU outside the window become black or white: choose it for what has to be seen."
            if cases.hu
            else "    # No CT in HU: each image is stretched between its own 0.5th and 99.5th percentile."
        )
        lines.append(f"    prepare: [{first}, {{use: {resize}, size: [{self.side}, {self.side}]}}]")
        border = ", border: zero" if cases.flat else ""
        lines.append(
            "    # Changes that leave the answer as it is; a left-right flip is one only where sides do not matter."
        )
        shift = f"{{use: shift_scale_rotate, shift: 0.05, scale: 0.1, rotate: 10, p: 0.5{border}}}"
        lines.append(f"    augment: [{shift}, {{use: horizontal_flip, p: 0.5}}]")
        if self.task == "views" and not self._classes():
            lines += [
                "    # Two changed copies of each image: an encoder learns what they have in common.",
                "    views:",
                "      count: 2",
                "      augment:",
                "        - {use: random_resized_crop, scale: [0.4, 1]}",
                "        - {use: horizontal_flip, p: 0.5}",
                "        - {use: brightness, p: 0.5}",
            ]
        if self.task == "regress" and "sex" in cases.columns_there:
            lines.append("    fields: [sex]            # 0 or 1, read by the head beside the image")
        return lines

    def _window(self) -> str:
        if not self.cases.hu:
            low, high = self.cases.low, max(self.cases.high, self.cases.low + 1)
            return f"{{use: window, low: {low:g}, high: {high:g}, units: stored}}"
        field = float(np.nanmedian(self.cases.pixel_mm * self.cases.columns))
        low, high = (0, 80) if field < HEAD_MM else (-160, 240)
        return f"{{use: window, low: {low}, high: {high}}}"

    # -- stages ------------------------------------------------------------------------------------------------------

    def _loop(self, pixels: int, slices: int = 1, keep: str = "", largest: int | None = None) -> list[str]:
        """Keys of a stage that say how long it trains; ``pixels`` are those of an item."""
        size = batch_size(self.task, pixels, largest)
        batch = max(1, min(size.items, self.train * slices // 2))
        why = size.why if batch == size.items else f"half of what an epoch has: {self.train * slices} items"
        a_epoch = max(1, self.train * slices // batch)
        epochs = int(np.clip(STEPS // a_epoch, 5, 100))
        lines = [f"    batch: {batch:<17}# {why}"]
        if slices > 1:
            lines.append(f"    slices: {slices:<16}# drawn from each case an epoch, out of {_span(self.cases.slices)}")
        lines.append(f"    epochs: {epochs:<16}# of {a_epoch} steps each; watch val/loss in the report: still falling?")
        lines += ["    optim: {use: adam, lr: 1e-3, weight_decay: 5e-4}", "    schedule: {use: poly, warmup: 1}"]
        if keep:
            why = ", by the loss: a metric of so few cases is luck" if keep == "loss" else ""
            lines.append(f"    keep_best: {{metric: {keep}, split: val}}    # the best epoch's weights are tested{why}")
        return lines

    def _drawn(self) -> int:
        return 1 if self.cases.flat else int(min(8, self.cases.slices.min()))

    def _segment(self) -> str:
        if not self.cases.masks:
            raise self._lacks("mask", "'medkit data folder' takes --masks DIR")
        return "\n".join(
            [
                "  - name: segment",
                "    unit: slice",
                "    objective:",
                "      use: multitask",
                "      encoder: {use: timm, model: resnet10t, in_channels: 1, depth: 4}    # small, for a first look",
                '      heads: {seg: {use: "smartnet:scse_unet", widths: [64, 32, 16, 8], objective: dice_bce}}',
                *self._loop(self.side**2, self._drawn(), "dice"),
                "    metrics: [dice, fpv]     # overlap where there is something, false volume where there is nothing",
            ]
        )

    def _classes(self) -> int:
        """How many classes there are, 0 without labels."""
        if self.declared is not None:
            return len(self.declared)
        return len(np.unique(self.cases.known))

    def _judge(self, metric: str) -> str:
        """What chooses the epoch: a metric, unless so few validation cases have some class that its best is luck."""
        if self.declared is not None:
            counts = counts_there(self.cases, self.declared, self.splits["val"])
        else:
            assert self.cases.labels is not None
            inside = np.array([fold in self.splits["val"] for fold in self.cases.fold_of])
            counts = [int((self.cases.labels[inside] == value).sum()) for value in np.unique(self.cases.known)]
        return metric if min(counts, default=0) >= FEWEST else "loss"

    def _prevalence(self) -> str:
        if self.declared is not None:
            return f"    # Of {len(self.cases)} cases {counts_in_words(self.cases, self.declared)}."
        values, counts = np.unique(self.cases.known, return_counts=True)
        missing = len(self.cases) - len(self.cases.known)
        said = ", ".join(
            f"{count} are {value:g}" for value, count in zip(values.tolist(), counts.tolist(), strict=True)
        )
        return f"    # Of {len(self.cases)} cases {said}{f', and {missing} have no label' if missing else ''}."

    def _classify(self) -> str:
        if self.declared is not None:
            return self._classify_declared()
        if not self.has_label:
            raise self._lacks(self.label, "'medkit data folder' takes --labels TABLE; --label names another column")
        share = float(self.cases.known.mean())
        rare = min(share, 1 - share) < 0.25 and len(self.cases.known) == len(self.cases)
        balance = ["    balance: true            # the rarer kind is drawn as often as the other"] if rare else []
        metrics = "    metrics: [auc, f1, sensitivity, specificity]"
        if self.cases.flat:
            objective = [
                "      use: multitask",
                "      encoder: {use: timm, model: resnet10t, in_channels: 1}    # small, for a first look",
                '      heads: {cls: {use: "smartnet:slice_class"}}',
            ]
            unit, pixels, largest = "slice", self.side**2, None
        else:
            objective = [
                "      use: volume            # slices go through the encoder, an LSTM reads them in order",
                "      encoder: {use: timm, model: resnet10t, in_channels: 1, depth: 4}    # small, for a first look",
                '      operator: {use: "smartnet:lstm_classifier", hidden: 128}',
                "      losses: {bce: {use: bce}}",
                "      slices_at_once: 32     # fewer take less memory; the numbers stay the same",
            ]
            unit, pixels, largest = "volume", self._volume, 8
        head = ["  - name: classify", f"    unit: {unit}", self._prevalence(), *balance, "    objective:", *objective]
        return "\n".join([*head, *self._loop(pixels, keep=self._judge("auc"), largest=largest), metrics])

    @property
    def _volume(self) -> int:
        """Pixels of the largest volume."""
        return int(self.cases.slices.max()) * self.side**2

    def _classify_declared(self) -> str:
        assert self.declared is not None
        flat = self.cases.flat
        pixels, largest = (self.side**2, None) if flat else (self._volume, 8)
        head = ["  - name: classify", f"    unit: {'slice' if flat else 'volume'}", self._prevalence()]
        loop = self._loop(pixels, keep=self._judge("macro_auc"), largest=largest)
        metrics = f"    metrics: {METRICS[self.declared.kind]}"
        return "\n".join([*head, "    objective:", *classifier_lines(self.declared, flat), *loop, metrics])

    def _regress(self) -> str:
        if self.declared is None:
            raise self._lacks(self.label, "'medkit data folder' takes --labels TABLE; --label names another column")
        if not self.cases.flat:
            raise InputError("regression is for single images, and these are volumes", str(self.cases.path))
        known = self.cases.known
        assert self.cases.labels is not None
        inside = np.array([fold in self.splits["train"] for fold in self.cases.fold_of])
        train = self.cases.labels[inside & ~np.isnan(self.cases.labels)]
        start, scale = (float(train.mean()), float(train.std()) or 1.0) if len(train) else (0.0, 1.0)
        sex = ", fields: [sex]" if "sex" in self.cases.columns_there else ""
        unit = "" if self.declared.unit == "1" else f" {self.declared.unit}"
        head = f"use: regression, start: {start:.4g}, scale: {scale:.4g}, hidden: 128{sex}"
        return "\n".join(
            [
                "  - name: regress",
                "    unit: slice",
                f"    # Labels are {known.min():g} to {known.max():g}{unit}; an untrained network says their mean.",
                "    objective:",
                "      use: multitask",
                "      encoder: {use: timm, model: resnet10t, in_channels: 1}    # small, for a first look",
                f"      heads: {{value: {{{head}}}}}",
                *self._loop(self.side**2, keep="mae"),
                "    metrics: [mae, mse, r2]",
            ]
        )

    def _denoise(self) -> str:
        if not self.cases.targets:
            raise self._lacks(
                "target", "image is the noisy one, target the clean one; 'medkit data mayo' makes such pairs"
            )
        least = int(min(self.cases.rows.min(), self.cases.columns.min()))
        patch = min(64, least // 8 * 8)
        return "\n".join(
            [
                "  - name: denoise",
                "    unit: patch",
                "    patches: 4               # squares out of each slice; whole slices are tested",
                f"    patch_size: {patch}",
                "    objective:",
                "      use: restoration",
                '      generator: {use: "baselines:red_cnn", width: 32}',
                "      losses: {mse: {use: mse}}",
                "      slices_at_once: 4",
                *self._loop(4 * patch**2, self._drawn(), "psnr"),
                "    metrics: [psnr, ssim, rmse]",
            ]
        )

    def _views(self) -> str:
        encoder = "      encoder: {use: timm, model: resnet10t, in_channels: 1}    # for others: {from: views.encoder}"
        if self.declared is not None:
            head = "      heads: {view: {use: classification}}"
            keep = self._judge("macro_f1")
            metrics = "    metrics: [macro_f1, top1]"
            loop = [self._prevalence(), *self._loop(self.side**2, self._drawn(), keep), metrics]
        elif classes := self._classes():
            values = np.unique(self.cases.known)
            if not np.array_equal(values, np.arange(classes)) or classes < 2:
                raise InputError(f"'{self.label}' does not count classes from 0 to {max(classes, 2) - 1}",
                                 str(self.cases.path), "two classes at least, each with a case")  # fmt: skip
            head = f'      heads: {{view: {{use: "pedxnet:view_class", classes: {classes}}}}}'
            loop = [
                self._prevalence(),
                *self._loop(self.side**2, self._drawn(), self._judge("macro_f1")),
                "    metrics: [macro_f1, top1]",
            ]
        else:
            head = '      heads: {views: {use: "ssl:vicreg", width: 256}}    # no labels are read'
            loop = self._loop(2 * self.side**2, self._drawn())
        return "\n".join(
            ["  - name: views", "    unit: slice", "    objective:", "      use: multitask", encoder, head, *loop]
        )

    def _report(self) -> list[str]:
        if self.task == "views" and not self._classes():
            return [
                "# There is nothing to test in a pretext alone: a stage that takes its encoder tells what it is worth."
            ]
        return [
            "report:",
            "  splits: [test]",
            "  maps: {cases: 4}         # pictures of what the network looked at or drew",
        ]

    def _lacks(self, column: str, hint: str) -> InputError:
        return InputError(f"to {self.task}, a column '{column}' is needed", str(self.cases.path), hint)


def _folds(names: list[str]) -> str:
    quoted = [name if name.isalpha() else f'"{name}"' for name in names]
    return quoted[0] if len(quoted) == 1 else f"[{', '.join(quoted)}]"


def _span(values: np.ndarray) -> str:
    low, high = int(values.min()), int(values.max())
    return str(low) if low == high else f"{low} to {high}"
