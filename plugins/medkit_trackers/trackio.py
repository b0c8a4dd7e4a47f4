"""trackio: its local store, or the Space or server that the environment names."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from typing import Any, ClassVar

from medkit.api import RunStarted
from medkit_trackers.common import Tracker, grey


class Trackio(Tracker):
    """A run of the project that is named after the recipe; a resumed run continues it.

    It goes to trackio's own store (``TRACKIO_DIR``), where ``trackio show`` finds it, unless the environment variable
    ``TRACKIO_SPACE_ID`` or ``TRACKIO_SERVER_URL`` names a Space or a server.

    Parameters
    ----------
    every:
        Losses are sent every so many batches; 0: only for epochs.
    images:
        Whether slices are sent, as the report shows them. Default: if they stay on this machine.
    """

    name: ClassVar[str] = "trackio"
    library: ClassVar[str] = "trackio"
    _run: Any = None

    def open(self, event: RunStarted, kept: dict[str, Any] | None) -> dict[str, Any]:
        import trackio

        name = kept["run"] if kept is not None else f"{event.folder.name}-{uuid.uuid4().hex[:6]}"
        self._run = trackio.init(
            project=event.name,
            name=name,
            config=self.settings(event),
            resume="allow",
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )
        return {"run": name}

    def local(self) -> bool:
        return not (os.environ.get("TRACKIO_SPACE_ID") or os.environ.get("TRACKIO_SERVER_URL"))

    def numbers(self, values: Mapping[str, float], axis: str, at: int) -> None:
        self._run.log({**values, axis: at})

    def pictures(self, pictures: Mapping[str, Any], axis: str, at: int) -> None:
        import trackio

        self._run.log({**{name: trackio.Image(grey(image)) for name, image in pictures.items()}, axis: at})

    def note(self, text: str) -> None:
        import trackio

        self._run.alert("a stage failed", text, trackio.AlertLevel.ERROR)

    def close(self, status: str) -> None:
        import trackio

        trackio.finish()  # not the run's own: it would be finished again, with a line on stdout, as Python ends
