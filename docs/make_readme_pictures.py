"""Draws the two pictures of README.md from a run of ``ich_seg`` on phantoms.

    medkit run ich_seg --out runs/readme && python docs/make_readme_pictures.py runs/readme

The report is photographed by Chromium, which has to be installed; the prediction is of a phantom that the run has not
seen.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image

import medkit
from medkit.runs.handle import Run

matplotlib.use("Agg")
from matplotlib import pyplot as plt

FOLDER = Path(__file__).parent / "images"
WIDE, HIGH = 1000, 940
SEED = 2024
"""Of the phantoms that are predicted; the run has seen others."""


def report(page: Path) -> None:
    """The top of a report as a browser shows it."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        sys.exit("no Chromium is installed here")
    with tempfile.TemporaryDirectory() as folder:
        shot = Path(folder) / "report.png"
        options = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            f"--user-data-dir={folder}/profile",
        ]
        words = [browser, *options, f"--window-size={WIDE},{HIGH}", f"--screenshot={shot}", page.resolve().as_uri()]
        subprocess.run(words, check=True, capture_output=True, timeout=120)
        _save(Image.open(shot), "report.png")


def prediction(run: Run) -> None:
    """What is predicted over an unseen phantom, and the true outline, in the slice with most of the bleed.

    Of several phantoms with a bleed it is the one with the median Dice.
    """
    source = medkit.build(
        "source", "phantoms:head_ct", patients=18, size=[256, 256], smallest=20, seed=SEED, centers=["A"]
    )
    tried = []
    for case in source.cases():
        if case.fields["volume_ml"] > 0:
            record = source.load(case)
            found = run.predict(record.image)
            said, true = found.mask.voxels > 0, record.mask.voxels > 0
            tried.append((2 * (said & true).sum() / (said.sum() + true.sum()), case, record, found))
    _, case, record, found = sorted(tried, key=lambda one: one[0])[len(tried) // 2]
    z = int(np.argmax(record.mask.voxels.sum((1, 2))))
    image, truth, said = record.image.voxels[z], record.mask.voxels[z], found.mask.voxels[z]
    figure, axes = plt.subplots(1, 2, figsize=(6.4, 3.5), dpi=100)
    for one in axes:
        one.imshow(image, cmap="gray", vmin=0, vmax=80)
        one.axis("off")
    axes[1].imshow(np.ma.masked_equal(said, 0), cmap="autumn", alpha=0.55, vmin=0, vmax=1)
    axes[1].contour(truth, [0.5], colors="cyan", linewidths=1)
    axes[0].set_title("phantom, 0 to 80 HU", fontsize=9)
    axes[1].set_title(
        f"predicted {found.volume_ml:.0f} mL (yellow); true {case.fields['volume_ml']:.0f} mL (outline)", fontsize=9
    )
    figure.tight_layout(pad=0.4)
    drawn = io.BytesIO()
    figure.savefig(drawn)
    _save(Image.open(drawn), "prediction.png")


def _save(image: Image.Image, name: str) -> None:
    """With 128 colours, which is a fifth of the size."""
    image.convert("RGB").quantize(128, dither=Image.Dither.NONE).save(FOLDER / name, optimize=True)
    print(f"{FOLDER / name}: {(FOLDER / name).stat().st_size / 1024:.0f} kB")


if __name__ == "__main__":
    made = medkit.open(sys.argv[1])
    report(made.report)
    prediction(made)
