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
    """Write a PNG with one row per case, ``slices`` slices each, bleeds outlined in red.

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


def radiograph_sheet(source: Any, cases: list[Any], path: str | Path, columns: int = 6, width: int = 160) -> Path:
    """Write a PNG of radiographs, ``columns`` in a row, each in a square of ``width`` pixels under its view and age.

    Greys go from the 0.5th to the 99.5th percentile of each image, as in the thesis's preparation.
    """
    tiles = []
    for case in cases:
        picture = source.load(case).image.voxels[0]
        low, high = np.percentile(picture, (0.5, 99.5))
        grey = (np.clip((picture - low) / max(high - low, 1), 0, 1) * 255).astype(np.uint8)
        factor = width / max(grey.shape)
        rows, across = (min(width, round(side * factor)) for side in grey.shape)
        small = cv2.resize(grey, (across, rows), interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)
        tile = np.zeros((width + 24, width), np.uint8)
        top, left = 24 + (width - rows) // 2, (width - across) // 2
        tile[top : top + rows, left : left + across] = small
        sex = "boy" if case.fields["sex"] else "girl"
        lines = (case.fields["view"], f"{case.fields['age_months'] / 12:.0f} y {sex} {case.fields['fracture_kind']}")
        for k, line in enumerate(lines):
            cv2.putText(tile, line, (2, 9 + 10 * k), cv2.FONT_HERSHEY_SIMPLEX, 0.3, 255, 1, cv2.LINE_AA)
        tiles.append(tile)
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % columns)
    cv2.imwrite(str(path), np.vstack([np.hstack(tiles[i : i + columns]) for i in range(0, len(tiles), columns)]))
    return Path(path)
