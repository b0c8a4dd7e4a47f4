"""When a checkpoint inside an epoch is due."""

from __future__ import annotations

import time


class CheckpointClock:
    """Says when ``seconds`` have passed since it was last started."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.restart()

    def restart(self) -> None:
        self._started = time.monotonic()

    def due(self) -> bool:
        return time.monotonic() - self._started >= self.seconds
