"""What a prediction says about where it comes from."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np

from medkit.data.io import read_volume
from medkit.protocols import Record
from medkit.runs.origin import inputs_named


def test_the_digest_of_a_nifti_pair_is_that_of_its_voxels_too(tmp_path: Path) -> None:
    digests = set()
    for brightness in (30, 31):
        path = tmp_path / f"{brightness}" / "scan.hdr"
        path.parent.mkdir()
        nibabel.save(nibabel.Nifti1Pair(np.full((8, 8, 3), brightness, np.int16), np.eye(4)), path)
        named = inputs_named(Record(read_volume(path)), [path])["input"]
        assert named["file"] == "scan.hdr"
        digests.add(named["digest"])
    assert len(digests) == 2
