"""TensorBoard: event files in the run folder, which ``tensorboard --logdir runs`` finds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar

from medkit.api import RunStarted
from medkit_trackers.common import Tracker, home


class TensorBoard(Tracker):
    """Event files in ``trackers/tensorboard`` of the run folder; a resumed run adds to them.

    Parameters
    ----------
    every:
        Losses are sent every so many batches; 0: only for epochs.
    images:
        Whether slices are sent, as the report shows them. Default: yes, as they stay on this machine.
    """

    name: ClassVar[str] = "tensorboard"
    library: ClassVar[str] = "tensorboard"
    _writer: Any = None

    def open(self, event: RunStarted, kept: dict[str, Any] | None) -> dict[str, Any]:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(home(event.folder) / "tensorboard"))
        if kept is None:
            text = json.dumps(self.settings(event), indent=1)
            self._writer.add_text("settings", "\n".join(f"    {line}" for line in text.splitlines()))
        return {}

    def local(self) -> bool:
        return True

    def numbers(self, values: Mapping[str, float], axis: str, at: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, at)
        self._writer.flush()  # what counts as sent is on the disk, should the run be killed

    def pictures(self, pictures: Mapping[str, Any], axis: str, at: int) -> None:
        for name, image in pictures.items():
            self._writer.add_image(name, image, at, dataformats="HW")
        self._writer.flush()

    def note(self, text: str) -> None:
        self._writer.add_text("notes", text)

    def close(self, status: str) -> None:
        self._writer.close()
