"""MLflow: a SQLite store in the run folder, or the server that ``MLFLOW_TRACKING_URI`` names."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import quote

from medkit.api import RunStarted
from medkit_trackers.common import Tracker, flat, grey, home

ENDED = {"finished": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}
PARAMETERS = 100  # as many as one message to a server may hold


class MLflow(Tracker):
    """A run of the experiment that is named after the recipe; a resumed run continues it.

    It goes to ``trackers/mlflow.db`` of the run folder, with its images in ``trackers/mlflow``, unless the environment
    variable ``MLFLOW_TRACKING_URI`` names another store or a server. MLflow's telemetry is off unless
    ``MLFLOW_DISABLE_TELEMETRY=false``.

    Parameters
    ----------
    every:
        Losses are sent every so many batches; 0: only for epochs.
    images:
        Whether slices are sent, as the report shows them. Default: if they stay on this machine.
    """

    name: ClassVar[str] = "mlflow"
    library: ClassVar[str] = "mlflow"
    _client: Any = None
    _run: str = ""

    def open(self, event: RunStarted, kept: dict[str, Any] | None) -> dict[str, Any]:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow import MlflowClient

        chosen = _chosen()
        store = chosen or f"sqlite:///{quote(str(home(event.folder) / 'mlflow.db'))}"
        self._client = MlflowClient(store)
        key = hashlib.sha256(chosen.encode()).hexdigest()[:16] if chosen else "here"  # an address may hold a password
        if kept is not None and kept["store"] == key:
            self._run = kept["run"]
            self._client.update_run(self._run, status="RUNNING")
            return kept
        found = self._client.get_experiment_by_name(event.name)
        where = None if chosen else (home(event.folder) / "mlflow").as_uri()
        experiment = found.experiment_id if found else self._client.create_experiment(event.name, where)
        self._run = self._client.create_run(experiment, run_name=event.folder.name).info.run_id
        self._describe(event)
        return {"store": key, "run": self._run}

    def _describe(self, event: RunStarted) -> None:
        from mlflow.entities import Param

        parameters = [Param(_name(name), str(value)[:500]) for name, value in flat(self.settings(event))]
        for i in range(0, len(parameters), PARAMETERS):
            self._client.log_batch(self._run, params=parameters[i : i + PARAMETERS])

    def local(self) -> bool:
        return not _chosen() or _chosen().startswith(("sqlite:", "file:", "/"))

    def numbers(self, values: Mapping[str, float], axis: str, at: int) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._client.log_batch(self._run, [Metric(_name(name), value, now, at) for name, value in values.items()])

    def pictures(self, pictures: Mapping[str, Any], axis: str, at: int) -> None:
        for name, image in pictures.items():
            self._client.log_image(self._run, grey(image), artifact_file=f"{_name(name)}/{at}.png")

    def note(self, text: str) -> None:
        self._client.set_tag(self._run, "mlflow.note.content", text)

    def close(self, status: str) -> None:
        self._client.set_terminated(self._run, ENDED[status])


def _chosen() -> str:
    return os.environ.get("MLFLOW_TRACKING_URI", "")


def _name(text: str) -> str:
    """MLflow allows letters, digits and ``_-. /:`` in names."""
    return "".join(c if c.isalnum() or c in "_-. /:" else "_" for c in text)
