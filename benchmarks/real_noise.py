"""The dose simulator compared with the noise of real scans of a phantom: amount, grain and streaks.

The files are the openly licensed phantom series of github.com/neurolabusc/dcm_qa_ct (BSD-2-Clause; Philips Ingenuity CT,
1 and 5 mm slices of one plastic object). In flat regions of every slice the scan's own noise is measured after
subtracting a plane, and compared with the noise that the simulator adds at a quarter of the dose, matched to the
additional noise of a scan at that dose (sqrt(3) times its own).

    python benchmarks/real_noise.py FOLDER [--into docs/low_dose.md]
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from medkit_benchmarks import script

from medkit.bench import table as markdown
from medkit.bench.table import fill
from medkit.data.dose import Scanner, simulate_low_dose, square_pixel
from medkit.data.dose_match import Match
from medkit.data.dose_photons import photons_for
from medkit.data.io import read_volume
from medkit.errors import InputError, MedkitError
from medkit.records import encoded, made_with, write_atomically

KEPT = Path(__file__).parent / "results" / "real_noise.json"
SOURCE = "github.com/neurolabusc/dcm_qa_ct at d03e30e, BSD-2-Clause"
DOSE, SEEDS = 0.25, 4
SIDE = 32
REGIONS = 4
KERNELS = {"bone": "sharp"}
"""Kernels in file names, with the simulator's kernel for each; all others are soft."""


def flat_regions(image: np.ndarray) -> list[tuple[int, int]]:
    """Corners of the flattest squares inside the object, without overlap."""
    found = []
    for top in range(0, image.shape[0] - SIDE + 1, SIDE // 2):
        for left in range(0, image.shape[1] - SIDE + 1, SIDE // 2):
            cut = image[top : top + SIDE, left : left + SIDE]
            if 20 < np.median(cut) < 150 and cut.min() > -200:
                found.append((float(without_plane(cut).std()), top, left))
    chosen: list[tuple[int, int]] = []
    for _, top, left in sorted(found):
        if all(abs(top - y) >= SIDE or abs(left - x) >= SIDE for y, x in chosen):
            chosen.append((top, left))
    return chosen[:REGIONS]


def without_plane(cut: np.ndarray) -> np.ndarray:
    """A square minus the plane that fits it best."""
    y, x = np.mgrid[: cut.shape[0], : cut.shape[1]]
    design = np.stack([np.ones(cut.size), y.ravel(), x.ravel()], 1)
    plane = design @ np.linalg.lstsq(design, cut.ravel(), rcond=None)[0]
    return np.asarray(cut - plane.reshape(cut.shape))


def grain(cuts: Sequence[np.ndarray]) -> dict[str, Any]:
    """Standard deviation, autocorrelation at 1 to 4 pixels (over rows and columns), and vertical over horizontal power."""
    cuts = [without_plane(cut) for cut in cuts]
    variance = float(np.mean([cut.var() for cut in cuts]))
    lags = [
        float(np.mean([(c[k:] * c[:-k]).mean() / 2 + (c[:, k:] * c[:, :-k]).mean() / 2 for c in cuts])) / variance
        for k in range(1, 5)
    ]
    along = np.mean([np.square(np.diff(cut, axis=0)).mean() for cut in cuts])
    across = np.mean([np.square(np.diff(cut, axis=1)).mean() for cut in cuts])
    return {"hu": variance**0.5, "autocorrelation": lags, "vertical_to_horizontal": float(along / across)}


def measured(file: Path) -> dict[str, Any]:
    """One slice: its own noise, and the noise that a quarter of the dose adds in the simulator."""
    scan = read_volume(file)
    hu = np.rint(scan.voxels).astype(np.float32)
    regions = flat_regions(hu[0])
    if not regions:
        raise InputError("no flat region was found", str(file))
    kernel = next((own for word, own in KERNELS.items() if word in file.name), "soft")

    def cuts(image: np.ndarray) -> list[np.ndarray]:
        return [image[top : top + SIDE, left : left + SIDE] for top, left in regions]

    own, scanner = grain(cuts(hu[0])), Scanner(kernel=kernel)
    wanted = own["hu"] * ((1 - DOSE) / DOSE) ** 0.5
    top, left = regions[0]
    place = f"box={top}:{top + SIDE},{left}:{left + SIDE}"
    photons = photons_for(scan.like(hu), DOSE, Match(wanted, place), scanner)
    made = [
        simulate_low_dose(hu, square_pixel(scan), DOSE, scanner=scanner, photons=photons, seed=seed)[0] - hu[0]
        for seed in range(SEEDS)
    ]
    low = [image + hu[0] for image in made]
    return {
        "file": file.name,
        "kernel": kernel,
        "pixel_mm": square_pixel(scan),
        "regions": regions,
        "own": own,
        "added": grain([cut for image in made for cut in cuts(image)]),
        "wanted_hu": wanted,
        "together_hu": grain([cut for image in low for cut in cuts(image)])["hu"],
        "own_of_regions": [float(without_plane(cut).std()) for cut in cuts(hu[0])],
        "added_of_regions": [
            float(np.sqrt(np.mean([without_plane(cuts(image)[i]).var() for image in made])))
            for i in range(len(regions))
        ],
    }


def page(found: Mapping[str, Any]) -> str:
    rows = [
        (
            one["file"].removesuffix(".dcm"),
            f"{one['own']['hu']:.1f}",
            f"{one['together_hu'] / one['own']['hu']:.2f}",
            ", ".join(f"{lag:.2f}" for lag in one["own"]["autocorrelation"]),
            ", ".join(f"{lag:.2f}" for lag in one["added"]["autocorrelation"]),
            f"{one['own']['vertical_to_horizontal']:.2f}",
            f"{one['added']['vertical_to_horizontal']:.2f}",
        )
        for one in found["slices"]
    ]
    heads = (
        "slice",
        "own noise, HU",
        "times at a quarter",
        "grain, real",
        "grain, simulated",
        "streaks, real",
        "simulated",
    )
    note = (
        f"{len(found['slices'])} slices of one object on one scanner, {found['side']}x{found['side']} pixels in each of up to "
        f"{REGIONS} flat regions, {found['seeds']} draws; {found['source']}. medkit {found['made']['medkit']}."
    )
    return "\n".join([*markdown.table(heads, rows), note])


def main() -> None:
    parser = script.parser(__doc__)
    parser.add_argument("folder", type=Path, nargs="?", help="the series; without it, the kept numbers are shown")
    parser.add_argument(
        "--into", type=Path, help="a page with the lines '<!-- bench real_noise -->' and '<!-- end -->'"
    )
    arguments = parser.parse_args()
    try:
        if arguments.folder is not None:
            slices = [measured(file) for file in sorted(arguments.folder.glob("*.dcm"))]
            about = {
                "source": SOURCE,
                "dose": DOSE,
                "seeds": SEEDS,
                "side": SIDE,
                "made": made_with(("numpy", "torch")),
            }
            write_atomically(KEPT, encoded(json.dumps({**about, "slices": slices}, indent=1) + "\n"))
        found = json.loads(KEPT.read_text("utf-8"))
        print(page(found)) if arguments.into is None else fill(arguments.into, "real_noise", page(found))
    except MedkitError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
