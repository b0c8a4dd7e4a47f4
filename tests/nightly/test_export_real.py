"""SMART-Net, MTD-GAN and PedXnet at the thesis's sizes, exported and compared on real slices.

They are trained for a step only: whether two runtimes agree does not depend on how well a network does.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import medkit
from medkit.front import export
from medkit.recipe import recipe_from
from medkit.runs.export import ExportSettings

ENCODER = {"use": "timm", "model": "resnet50", "in_channels": 1, "stem_stride": 1}
SPLITS = {name: {"fold": name} for name in ("train", "test")}


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("export")


@pytest.fixture(scope="session")
def heads(shared: Path, folder: Path) -> dict[str, Any]:
    """A CT of a plastic head to train on, one of a real head to test on, both without a bleed."""
    real = shared / "realdata"
    path = folder / "heads.csv"
    rows = [f"{real / 'phantom_ct_philips_tilt'},,a,train", f"{real / 'head_ct_ge_tilt'},,b,test"]
    path.write_text("\n".join(["image,mask,patient,fold", *rows, ""]))
    return {"use": "manifest", "path": str(path), "fold": "fold", "no_mask": "normal"}


@pytest.fixture(scope="session")
def smartnet(heads: dict[str, Any], folder: Path) -> Path:
    prepare = [{"use": "window", "low": 0, "high": 80}, {"use": "clahe"}, {"use": "resize", "size": [256, 256]}]
    pretext: dict[str, Any] = {"use": "multitask", "encoder": ENCODER}
    pretext["heads"] = {
        "cls": {"use": "smartnet:slice_class"},
        "seg": {"use": "smartnet:scse_unet"},
        "rec": {"use": "smartnet:pixel_shuffle"},
    }
    segment: dict[str, Any] = {"use": "volume", "encoder": {"from": "pretext.encoder"}, "slices_at_once": 1}
    segment |= {"operator": {"use": "smartnet:conv3d_segmenter"}, "losses": {"bce": {"use": "bce"}}}
    classify = segment | {"operator": {"use": "smartnet:lstm_classifier"}}
    volume = {"unit": "volume", "validate": None, "unfreeze": {"part": "encoder", "after": 1}}
    stages = [
        {"name": "pretext", "batch": 2, "validate": None, "objective": pretext},
        {"name": "segment", **volume, "objective": segment},
        {"name": "classify", **volume, "objective": classify},
    ]
    return trained("smartnet", {"source": heads, "splits": SPLITS, "prepare": prepare}, stages, folder)


@pytest.fixture(scope="session")
def mtdgan(heads: dict[str, Any], folder: Path) -> Path:
    generator = {"use": "mtdgan:fft_generator", "width": 32, "layers": 10}
    objective = {"use": "restoration", "generator": generator, "losses": {"charbonnier": {"use": "charbonnier"}}}
    stages = [{"name": "denoise", "unit": "patch", "patches": 1, "validate": None, "objective": objective}]
    source = {"use": "mtdgan:low_dose", "source": heads}
    prepare = [{"use": "window", "low": 0, "high": 80}]
    return trained("mtdgan", {"source": source, "splits": SPLITS, "prepare": prepare}, stages, folder)


@pytest.fixture(scope="session")
def pedxnet(shared: Path, folder: Path) -> Path:
    images = sorted((shared / "realdata" / "cxr_nih").glob("*.png"))
    path = folder / "views.csv"
    rows = [f"{image},{i},{i},{fold}" for i, (image, fold) in enumerate(zip(images, SPLITS, strict=True))]
    path.write_text("\n".join(["image,view,patient,fold", *rows, ""]))
    source = {"use": "manifest", "path": str(path), "fold": "fold", "label": "view"}
    prepare = [{"use": "clip_percentiles"}, {"use": "pad_resize", "size": [512, 512]}]
    view = {"use": "pedxnet:view_class", "classes": 7, "auxiliary": 0.3}
    objective = {
        "use": "multitask",
        "encoder": {"use": "pedxnet:inception_v3", "init": "xavier"},
        "heads": {"view": view},
    }
    stages = [{"name": "views", "validate": None, "objective": objective}]
    return trained("pedxnet", {"source": source, "splits": SPLITS, "prepare": prepare}, stages, folder)


def trained(name: str, data: dict[str, Any], stages: list[dict[str, Any]], folder: Path) -> Path:
    recipe = recipe_from({"medkit": 1, "name": name, "data": {"d": data}, "stages": stages})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDKIT_CACHE", str(folder / "cache"))
        medkit.run(recipe, folder / name, device="cpu", quiet=True)
    return folder / name


@pytest.mark.parametrize(
    ("run", "stage", "suffix"),
    [
        ("smartnet", "pretext", "onnx"),
        ("smartnet", "pretext", "pt2"),
        ("smartnet", "segment", "onnx"),
        ("smartnet", "classify", "onnx"),
        ("mtdgan", "denoise", "onnx"),
        ("mtdgan", "denoise", "pt2"),
        ("pedxnet", "views", "onnx"),
    ],
)
def test_a_network_of_the_thesis_agrees_on_real_slices(
    run: str, stage: str, suffix: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    pytest.importorskip("onnxruntime")
    trained_run: Path = request.getfixturevalue(run)
    said = export(trained_run, tmp_path / f"{stage}.{suffix}", stage=stage, settings=ExportSettings(slices=4))
    print(run, stage, suffix, said["check"])
    assert max(said["check"]["max_abs_difference"].values()) <= 1e-4
