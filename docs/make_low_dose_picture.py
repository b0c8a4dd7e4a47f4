"""Draw ``docs/images/low_dose.png``: a real head at full dose, a quarter and a tenth of it, and the noise itself.

    python docs/make_low_dose_picture.py head_ct_ge_tilt docs/images/low_dose.png

The folder is the head CT of neurolabusc/dcm_qa_ct (BSD-2-Clause), given by Aliza Medical Imaging; any DICOM folder or
NIfTI file in HU does.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from medkit.data.dose import Scanner, simulate_low_dose
from medkit.data.io import read_volume

WINDOW = (0.0, 80.0)
NOISE = 40.0  # HU; the grey range of the noise is plus and minus this
SCANNER = Scanner()  # as much noise as published quarter-dose brain images have
DOSES = {"a quarter of the dose": 0.25, "a tenth of the dose": 0.1}


def draw(scan: Path, picture: Path, z: int | None = None) -> None:
    """Draw slice ``z`` (default: two thirds of the way up) of a scan."""
    volume = read_volume(scan)
    z = 2 * volume.depth // 3 if z is None else z
    full = volume.voxels[z : z + 1].astype(np.float32)
    low = {
        name: simulate_low_dose(full, volume.spacing[2], dose, scanner=SCANNER, seed=7) for name, dose in DOSES.items()
    }
    noise = low["a quarter of the dose"] - full
    panels = [("as scanned", full, WINDOW)]
    panels += [(name, voxels, WINDOW) for name, voxels in low.items()]
    panels += [("what a quarter of the dose adds", noise, (-NOISE, NOISE))]
    rows, columns = np.nonzero(full[0] > -300)
    part = (slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1))
    figure, axes = plt.subplots(1, 4, figsize=(11, 3.0), layout="constrained")
    for axis, (title, voxels, (darkest, brightest)) in zip(axes, panels, strict=True):
        axis.imshow(voxels[0][part], cmap="gray", vmin=darkest, vmax=brightest, interpolation="nearest")
        axis.set_title(f"{title}\n{darkest:g} to {brightest:g} HU", fontsize=10)
        axis.axis("off")
    figure.savefig(picture, dpi=90)


if __name__ == "__main__":
    draw(Path(sys.argv[1]), Path(sys.argv[2]))
