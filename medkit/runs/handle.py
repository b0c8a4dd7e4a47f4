"""What a run is to those who started it, and to the hooks of plugins."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from medkit.evaluation.evaluate import MetricValue
from medkit.recipe import Recipe, load_recipe

Results = dict[str, dict[str, dict[str, MetricValue]]]
Status = Literal["running", "finished", "failed", "interrupted"]


class Run:
    """A running or finished run.

    Parameters
    ----------
    folder:
        The run folder.
    results:
        ``results[stage][split][metric]``; empty until something has been evaluated.
    recipe:
        The resolved recipe; by default the run folder's own, read when it is first asked for.
    """

    def __init__(self, folder: Path, results: Results | None = None, recipe: Recipe | None = None) -> None:
        self.folder = folder
        self.results: Results = {} if results is None else results
        self.status: Status = "running" if results is None else "finished"
        self.failed: dict[str, str] = {}
        """Stages that failed, and why."""
        self._recipe = recipe

    @property
    def recipe(self) -> Recipe:
        if self._recipe is None:
            self._recipe = load_recipe(self.folder / "recipe.yaml")
        return self._recipe

    @property
    def report(self) -> Path:
        return self.folder / "report.html"

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r}, {self.status})"
