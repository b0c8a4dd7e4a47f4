"""Weights & Biases: files in the run folder, or the server if ``WANDB_MODE=online`` asks for it."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from typing import Any, ClassVar

from medkit.api import RunStarted
from medkit_trackers.common import Tracker, grey, home


class Wandb(Tracker):
    """A run of the project that is named after the recipe (or ``WANDB_PROJECT``); a resumed run keeps its id.

    Offline, unless the environment variable ``WANDB_MODE`` says otherwise: files go to ``trackers/wandb`` of the run
    folder, and ``wandb sync`` uploads them. Reports of wandb's own faults to its makers are off unless
    ``WANDB_ERROR_REPORTING=true``.

    Parameters
    ----------
    every:
        Losses are sent every so many batches; 0: only for epochs.
    images:
        Whether slices are sent, as the report shows them. Default: if they stay on this machine.
    """

    name: ClassVar[str] = "wandb"
    library: ClassVar[str] = "wandb"
    _run: Any = None

    def open(self, event: RunStarted, kept: dict[str, Any] | None) -> dict[str, Any]:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        key = kept["run"] if kept is not None else uuid.uuid4().hex[:12]
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or event.name,
            id=key,
            name=event.folder.name,
            dir=str(home(event.folder)),
            config=self.settings(event),
            mode=_mode(),  # type: ignore[arg-type]
            resume="allow" if _mode() == "online" else None,
            reinit="create_new",
            save_code=False,
            settings=wandb.Settings(console="off", silent=True, disable_git=True),
        )
        return {"run": key}

    def local(self) -> bool:
        return _mode() == "disabled"  # an offline folder is there to be sent, by `wandb sync`

    def numbers(self, values: Mapping[str, float], axis: str, at: int) -> None:
        self._run.log({**values, axis: at})

    def pictures(self, pictures: Mapping[str, Any], axis: str, at: int) -> None:
        import wandb

        self._run.log({**{name: wandb.Image(grey(image)) for name, image in pictures.items()}, axis: at})

    def note(self, text: str) -> None:
        self._run.notes = text

    def close(self, status: str) -> None:
        self._run.finish(exit_code=0 if status == "finished" else 1)


def _mode() -> str:
    return os.environ.get("WANDB_MODE") or "offline"
