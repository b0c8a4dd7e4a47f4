"""Contact sheets of cases, to look at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np


def contact_sheet(
    source: Any,
    cases: list[Any],
    path: str | Path,
    slices: int = 8,
    window: tuple[float, float] = (0, 80),
    width: int = 128,
) -> Path:
    """Write a PNG with one row a case, ``slices`` slices each, bleeds outlined in red.

    ``window`` is the display range in HU, ``width`` the pixels of one picture.
    """
    rows = []
    for case in cases:
        record = source.load(case)
        volume, mask = record.image.voxels, record.mask.voxels
        picks = np.linspace(0, len(volume) - 1, slices).round().astype(int)
        if mask.any():
            worst = int(mask.sum((1, 2)).argmax())
            picks[int(np.abs(picks - worst).argmin())] = worst
        row = []
        for s in picks:
            grey = np.clip((volume[s].astype(np.float32) - window[0]) / (window[1] - window[0]), 0, 1) * 255
            tile = cv2.cvtColor(
                cv2.resize(grey.astype(np.uint8), (width, width), interpolation=cv2.INTER_AREA), cv2.COLOR_GRAY2BGR
            )
            big = cv2.resize(mask[s].astype(np.uint8), (width, width), interpolation=cv2.INTER_NEAREST)
            edges, _ = cv2.findContours(big, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
            row.append(cv2.drawContours(tile, edges, -1, (40, 40, 230), 1))
        sheet = np.hstack(row)
        name = " ".join(
            str(part) for part in (case.id, case.fields.get("subtype"), case.fields.get("volume_ml")) if part
        )
        cv2.putText(sheet, name, (3, 11), cv2.FONT_HERSHEY_SIMPLEX, 0.36, (120, 220, 255), 1, cv2.LINE_AA)
        rows.append(sheet)
    cv2.imwrite(str(path), np.vstack(rows))
    return Path(path)
