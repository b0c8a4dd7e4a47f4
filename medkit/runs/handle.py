"""What a run is to those who started or opened it, and to the hooks of plugins."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from medkit.evaluation.case_table import read_cases
from medkit.evaluation.evaluate import MetricValue
from medkit.evaluation.results import read_results
from medkit.evaluation.same_cases import IMAGE, TRUTH
from medkit.recipe import Recipe, load_recipe
from medkit.runs.folder import RunFolder
from medkit.runs.notebook import results_html, run_html

if TYPE_CHECKING:
    import pandas

    from medkit.data.volume import Volume
    from medkit.runs.predictor import Prediction, Predictor, PredictSettings

Status = Literal["running", "finished", "failed", "interrupted"]
TEXTS = ("stage", "split", "case", "patient", "center", IMAGE, TRUTH)
"""Columns of ``cases.csv`` that name things, or are digests: they stay text, even if they are digits."""


class Results(dict[str, dict[str, dict[str, MetricValue]]]):
    """``results[stage][split][metric]``."""

    def to_frame(self) -> pandas.DataFrame:
        """One row per stage, split and metric, with value, interval and counts (:class:`MetricValue`)."""
        import pandas

        rows = [
            {"stage": stage, "split": split, "metric": metric, **value.json()}
            for stage, splits in self.items()
            for split, metrics in splits.items()
            for metric, value in metrics.items()
        ]
        return pandas.DataFrame(rows, columns=None if rows else ["stage", "split", "metric", "value", "low", "high"])

    def _repr_html_(self) -> str:
        return results_html(self)


class Run:
    """A running or finished run.

    Parameters
    ----------
    folder:
        The run folder.
    results:
        ``results[stage][split][metric]``; empty until something has been evaluated.
    recipe:
        The resolved recipe; by default the run folder's own, read when first asked for.
    """

    def __init__(
        self,
        folder: Path,
        results: Mapping[str, dict[str, dict[str, MetricValue]]] | None = None,
        recipe: Recipe | None = None,
    ) -> None:
        self.folder = folder
        self.results = Results(results or {})
        self.status: Status = "running" if results is None else "finished"
        self.failed: dict[str, str] = {}
        """Stages that failed, and why."""
        self._recipe = recipe
        self._predictors: dict[tuple[Any, ...], Predictor] = {}

    @classmethod
    def open(cls, folder: str | Path) -> Run:
        """A run made earlier; :func:`medkit.open`."""
        found = RunFolder.open(Path(folder))
        made = cls(found.path, read_results(found.path) if found.file("results.json").is_file() else {})
        state = found.read_json("state.json", {})
        made.failed = dict(state.get("failed", {}))
        if made.failed:
            made.status = "failed"
        elif any(stage.name not in state.get("done", []) for stage in made.recipe.stages):
            made.status = "interrupted"
        return made

    @property
    def recipe(self) -> Recipe:
        if self._recipe is None:
            self._recipe = load_recipe(self.folder / "recipe.yaml")
        return self._recipe

    @property
    def report(self) -> Path:
        return self.folder / "report.html"

    @property
    def cases(self) -> pandas.DataFrame:
        """``cases.csv``: one row per stage, split and case (or slice) with the values of its metrics, nan where it has
        none."""
        import pandas

        found = pandas.DataFrame(read_cases(self.folder))
        for name in found.columns.difference(list(TEXTS)):
            cells = found[name].where(found[name] != "")
            numbers = pandas.to_numeric(cells, errors="coerce")
            if numbers.notna().equals(cells.notna()):  # a column of text stays one
                found[name] = numbers
        return found

    def model(self, stage: str | None = None, *, device: str = "cpu") -> Any:
        """The trained objective of a stage, a ``torch.nn.Module`` ready for inference; ``parts()`` has its parts.

        Parameters
        ----------
        stage:
            Default: the recipe's last one that is not a variant.
        """
        return self._predictor(stage, None, device).objective.eval()

    def predict(
        self,
        image: Volume | str | Path,
        *,
        stage: str | None = None,
        fields: Mapping[str, float] | None = None,
        settings: PredictSettings | None = None,
        device: str = "cpu",
    ) -> Prediction:
        """What a stage predicts for a volume, or for what is read from a path; nothing is written.

        Weights are read once for all calls with the same stage, settings and device.

        Raises
        ------
        InputError
            if the image cannot be read, or it or a field does not fit the stage.
        """
        from medkit.data.io import read_volume

        volume = read_volume(image) if isinstance(image, str | Path) else image
        return self._predictor(stage, settings, device).predict(volume, fields)

    def evaluate(
        self,
        split: str,
        *,
        stage: str | None = None,
        data: str | Path | None = None,
        space: str | None = None,
        allow_seen: str | None = None,
        device: str = "cpu",
    ) -> Results:
        """Measure finished stages, or one, on a split; the run's results, with these added to its folder.

        Parameters
        ----------
        data:
            A manifest of cases that came after the run: ``split`` is the name for their results.
        space:
            With ``data``: its patients are other people than those of the recipe who have the same names.
        allow_seen:
            Why the split may hold patients that were seen in training.

        Raises
        ------
        InputError
            if patients or images of the split were seen in training and nothing allows it, or ``data`` does not fit.
        """
        from medkit.runs.measure import evaluate_again
        from medkit.runs.new_cases import NewCases

        new = None if data is None else NewCases(Path(data), space)
        evaluate_again(self.folder, split, stage=stage, device=device, allow_seen=allow_seen, new=new)
        self.results = Results(read_results(self.folder))
        return self.results

    def _predictor(self, stage: str | None, settings: PredictSettings | None, device: str) -> Predictor:
        from medkit.runs.predictor import DEFAULT, Predictor

        key = (stage, settings or DEFAULT, device)
        if key not in self._predictors:
            self._predictors[key] = Predictor(self.folder, stage=stage, settings=settings or DEFAULT, device=device)
        return self._predictors[key]

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r}, {self.status})"

    def _repr_html_(self) -> str:
        return run_html(self)
