"""Methods on whole volumes: 3-D networks on raw slices, Patel's slice network and LSTM, the recipes of Tables 6 and 7."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from medkit_baselines.patel_lstm import PatelCNN, PatelHead, PatelLSTM
from medkit_baselines.patel_unet3d import PatelUNet3D
from medkit_baselines.singh_cnn3d import IntensityProfile, SinghCNN3D
from medkit_baselines.volumes import each_volume
from torch import nn

import medkit
from medkit.engine.checkpoint import read_tensors
from medkit.engine.runtime import Runtime
from medkit.errors import InputError
from medkit.objectives.volume import VolumeTask
from medkit.parts.identity import Identity
from medkit.recipe import load_recipe, recipe_from
from medkit.registry.marks import Placed
from medkit.runs.folder import RunFolder
from medkit.runs.workbench import Workbench
from medkit.testing import check_encoder, check_operator, check_pretext

RAW = {"channels": (1,), "strides": (1,)}
SMALL_SINGH = {"size": (8, 16, 16), "widths": (2, 2, 2, 2), "hidden": 4}


def count(*modules: nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


def raw_task(operator: nn.Module, loss: str = "bce") -> VolumeTask:
    return VolumeTask(Identity(), operator, {loss: Placed(medkit.build("loss", loss), {"weight": 1.0})})


def volumes(lengths: list[int], height: int, width: int) -> dict[str, torch.Tensor]:
    total = sum(lengths)
    return {
        "image": torch.rand(total, 1, height, width),
        "mask": (torch.rand(total, 1, height, width) > 0.5).float(),
        "label": torch.arange(len(lengths)) % 2.0,
        "lengths": torch.tensor(lengths),
    }


# -- raw slices ------------------------------------------------------------------------------------------------


def test_the_identity_keeps_every_promise_of_an_encoder() -> None:
    check_encoder(Identity)
    check_encoder(Identity, in_channels=3)


@pytest.mark.parametrize(
    "operator", [PatelUNet3D(**RAW, width=2), SinghCNN3D((1,), **SMALL_SINGH)], ids=["patel", "singh"]
)
def test_operators_train_on_the_slices_themselves(operator: nn.Module) -> None:
    task = raw_task(operator)
    task.losses("train", volumes([3, 5], 21, 18))["bce"].backward()
    assert all(p.grad is not None for p in operator.parameters())


def test_a_segmentation_of_raw_slices_has_their_size_whatever_it_is() -> None:
    task = raw_task(PatelUNet3D(**RAW, width=2)).eval()
    with torch.no_grad():
        assert task.predict(volumes([1, 9], 21, 18))["mask_probability"].shape == (10, 1, 21, 18)


def test_volumes_are_filled_up_behind_with_zeros_and_cut_back() -> None:
    seen = []

    def network(x: torch.Tensor) -> torch.Tensor:
        seen.append(x)
        return x

    features = torch.rand(2, 5, 1, 7, 8) + 1
    found = each_volume(network, features, torch.tensor([5, 2]), multiple=8)
    assert [tuple(x.shape) for x in seen] == [(1, 1, 8, 8, 8)] * 2
    assert torch.equal(found[0], features[0, :, 0])
    assert torch.equal(found[1, :2], features[1, :2, 0])
    assert float(seen[1].sum()) == pytest.approx(float(features[1, :2].sum()))


def test_a_smartnet_decoder_also_works_on_raw_slices() -> None:
    operator = medkit.build("operator", "conv3d_segmenter", **RAW, widths=[4, 4])
    assert raw_task(operator).logits(volumes([2], 16, 16)).shape == (2, 1, 16, 16)


UNFREEZING = {
    "medkit": 1,
    "name": "raw",
    "data": {
        "ich": {
            "source": {"use": "phantoms:head_ct", "patients": 6, "size": [32, 32], "slices": 4},
            "splits": {"train": {"fold": "train"}},
        }
    },
    "stages": [
        {
            "name": "classify",
            "unit": "volume",
            "objective": {
                "use": "volume",
                "encoder": {"use": "identity"},
                "operator": {"use": "baselines:singh_cnn3d"},
                "losses": {"bce": {"use": "bce"}},
            },
            "unfreeze": {"part": "encoder"},
        }
    ],
}


def test_unfreezing_the_identity_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match="part 'encoder' has no parameters, so there is nothing to unfreeze; leave 'unfreeze' out"
    ):
        medkit.run(recipe_from(UNFREEZING), tmp_path / "run", device="cpu", quiet=True)
    assert not (tmp_path / "run").exists()


# -- Patel et al. 2019a ----------------------------------------------------------------------------------------


def test_patel_s_unet_keeps_every_promise_of_an_operator() -> None:
    check_operator(PatelUNet3D, width=2)


def test_patel_s_unet_has_the_published_layers() -> None:
    def conv(i: int, o: int) -> int:
        return 27 * i * o + o

    def block(i: int, m: int, o: int) -> int:
        return sum(conv(a, b) + 2 * b + conv(b, b) for a, b in ((i, m), (m, o)))

    layers = [
        (1, 32, 64),
        (64, 128, 128),
        (128, 256, 256),
        (256, 512, 512),
        (768, 256, 256),
        (384, 128, 128),
        (192, 64, 64),
    ]
    with torch.device("meta"):
        assert count(PatelUNet3D(**RAW)) == sum(block(*layer) for layer in layers) + 64 + 1


def test_patel_s_unet_drops_channels_in_the_deepest_level_only() -> None:
    rates = [m.p for m in PatelUNet3D(**RAW, width=2).modules() if isinstance(m, nn.Dropout3d)]
    assert rates == [0, 0, 0, 0, 0, 0, 0.5, 0.5, 0, 0, 0, 0, 0, 0]


# -- Singh et al. 2020 -----------------------------------------------------------------------------------------


def test_singh_s_network_keeps_every_promise_of_an_operator() -> None:
    check_operator(SinghCNN3D, **SMALL_SINGH)
    check_operator(SinghCNN3D, **SMALL_SINGH, bins=None)


def test_sizes_that_pooling_would_use_up_are_refused() -> None:
    with pytest.raises(ValueError, match="8 slices of 16x16 are the minimum"):
        SinghCNN3D((1,), size=(4, 16, 16))


def test_an_intensity_profile_changes_nothing_before_training() -> None:
    x = torch.rand(1, 1, 4, 8, 8)
    torch.testing.assert_close(IntensityProfile(16).eval()(x), x)


def test_an_intensity_profile_maps_tissue_to_its_share_in_the_training_volumes() -> None:
    profile = IntensityProfile(100)
    generator = torch.Generator().manual_seed(0)
    for _ in range(4):
        tissue = torch.rand(1, 1, 8, 32, 32, generator=generator) ** 3
        profile(torch.where(torch.rand(tissue.shape, generator=generator) > 0.5, tissue, 0.0))  # half of it is air
    quantiles = torch.tensor([0.25, 0.5, 0.75, 0.9])
    torch.testing.assert_close(profile.eval()(quantiles**3), quantiles, rtol=0, atol=0.02)


def test_an_intensity_profile_weighs_every_training_volume_alike() -> None:
    profile = IntensityProfile(4)
    for value in (0.1, 0.1, 0.9):
        profile(torch.full((1, 1, 2, 2, 2), value))
    torch.testing.assert_close(profile.profile, torch.tensor([2 / 3, 0, 0, 1 / 3]))
    assert int(profile.volumes) == 3


def test_an_intensity_profile_rests_in_evaluation() -> None:
    profile = IntensityProfile(4).eval()
    profile(torch.rand(1, 1, 2, 2, 2))
    assert int(profile.volumes) == 0


# -- Patel et al. 2019b ----------------------------------------------------------------------------------------


def test_patel_s_slice_network_keeps_every_promise_of_an_encoder() -> None:
    check_encoder(PatelCNN, width=2)


def test_patel_s_slice_network_has_the_published_layers() -> None:
    widths = [1, 16, 32, 32, 64, 64, 128, 128, 256, 256, 512, 512]
    assert count(PatelCNN()) == sum(9 * i * o + o + 2 * o for i, o in pairwise(widths))


def test_patel_s_slice_head_keeps_every_promise_of_a_pretext() -> None:
    check_pretext(PatelHead, hidden=8)


def test_patel_s_lstm_keeps_every_promise_of_an_operator() -> None:
    check_operator(PatelLSTM, hidden=8)


def test_patel_s_lstm_joins_the_last_layer_s_final_states_backward_first() -> None:
    torch.manual_seed(0)
    operator = PatelLSTM((4,), hidden=3).eval()
    codes, lengths = torch.randn(2, 5, 3), torch.tensor([3, 5])
    with torch.no_grad():
        found = operator(codes, lengths)
        for i, length in enumerate(lengths.tolist()):
            states, _ = operator.lstm(codes[i, :length][None])
            joined = torch.cat([states[0, 0, 3:], states[0, -1, :3]])
            torch.testing.assert_close(found[i], operator.linear(joined)[0])


def test_patel_s_lstm_goes_on_with_the_hidden_layers_of_the_slice_head() -> None:
    head = PatelHead((4,), hidden=6)
    operator = PatelLSTM((4,), head, hidden=3)
    assert operator.code is head.code
    assert operator.lstm.input_size == 6
    assert not any(p is head.linear.weight for p in operator.parameters())


def test_patel_s_lstm_refuses_another_head() -> None:
    other = medkit.build("pretext", "slice_class", channels=(4,))
    with pytest.raises(InputError, match="baselines:patel_head on 4 channels, which this SliceClass is not"):
        PatelLSTM((4,), other)
    with pytest.raises(InputError, match="which this PatelHead on 5 is not"):
        PatelLSTM((4,), PatelHead((5,)))


# -- recipes ---------------------------------------------------------------------------------------------------

C, S, R = "slice_class", "scse_unet", "pixel_shuffle"
ROWS = {
    "": ({C, S, R}, 1),
    "@only_cls": ({C}, 0),
    "@only_seg": ({S}, 0),
    "@only_rec": ({R}, 0),
    "@cls_seg": ({C, S}, 0),
    "@cls_seg_consist": ({C, S}, 1),
    "@cls_rec": ({C, R}, 0),
    "@seg_rec": ({S, R}, 0),
    "@cls_seg_rec": ({C, S, R}, 0),
}


@pytest.fixture
def _places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDKIT_ICH_MANIFEST", "ich.csv")
    monkeypatch.setenv("MEDKIT_RESNET50", "resnet50.safetensors")


@pytest.mark.usefixtures("_places")
@pytest.mark.parametrize("name", ["tables/table7", "thesis/tables/table7"])
def test_table_7_has_every_combination_of_pretexts(name: str) -> None:
    recipe = load_recipe(name)
    found = {}
    for stage in recipe.stages:
        if stage.name.startswith("pretext"):
            arguments = stage.objective.arguments
            heads = {head.entry.name for head in arguments["heads"].values()}
            found[stage.name.removeprefix("pretext")] = (heads, len(arguments["ties"]))
    assert found == ROWS


@pytest.mark.usefixtures("_places")
@pytest.mark.parametrize("name", ["tables/table7", "thesis/tables/table7"])
@pytest.mark.parametrize("base", ["classify", "segment"])
def test_each_row_of_table_7_takes_the_encoder_of_its_own_pretext(name: str, base: str) -> None:
    taken = {
        stage.name: stage.objective.arguments["encoder"].plain()["from"]
        for stage in load_recipe(name).stages
        if stage.name.split("@")[0] == base
    }
    assert taken == {f"{base}{row}": f"pretext{row}.encoder" for row in ROWS}


@pytest.mark.usefixtures("_places")
@pytest.mark.parametrize(
    ("table", "base", "rows"),
    [
        (
            "table6_cls",
            "classify",
            ["patel_full", "patel_simple", "singh", "scratch", "imagenet", "autoencoder", "model_genesis"],
        ),
        (
            "table6_seg",
            "segment",
            ["patel", "nnunet_2d", "nnunet_3d", "scratch", "imagenet", "autoencoder", "model_genesis"],
        ),
    ],
)
def test_table_6_has_the_rows_of_the_thesis(table: str, base: str, rows: list[str]) -> None:
    for name, there in ((f"thesis/tables/{table}", rows), (f"tables/{table}", [r for r in rows if r != "imagenet"])):
        names = [stage.name for stage in load_recipe(name).stages if stage.name.split("@")[0] == base]
        assert names == [base, *(f"{base}@{row}" for row in there)]


@pytest.mark.parametrize("name", ["tiny_table6", "tables/table6_cls", "tables/table6_seg", "tables/table7"])
def test_every_stage_of_a_small_table_is_built(name: str) -> None:
    recipe = load_recipe(name)
    external = [stage.name for stage in recipe.stages if "nnunet" in stage.name]  # built where nnU-Net is installed
    bench = Workbench(recipe.without(external), Runtime(torch.device("cpu")))
    for stage in bench.recipe.stages:
        assert bench.objective(stage).turns()


def test_a_variant_taken_without_its_stage_s_name_is_told() -> None:
    with pytest.raises(InputError, match="no earlier stage is named 'patel_full'") as caught:
        load_recipe("tiny_table6", set=["stages.classify.objective.encoder.from=patel_full.encoder"])
    assert "pretext@patel_full" in str(caught.value)


@pytest.mark.nightly
def test_all_methods_of_table_6_train_and_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDKIT_CACHE", str(tmp_path / "cache"))
    done = medkit.run("tiny_table6", tmp_path / "run", device="cpu", quiet=True)
    variants = {
        "pretext": ["patel_full"],
        "classify": ["patel_full", "patel_simple", "singh"],
        "segment": ["patel", "genesis_unet3d"],
    }
    assert list(done.results) == [
        name for base, others in variants.items() for name in (base, *(f"{base}@{o}" for o in others))
    ]
    assert all(np.isfinite(done.results[s]["internal"]["dice"].value) for s in done.results if s.startswith("segment"))
    # The second phase of Patel's method starts from the whole of the first one.
    saved = read_tensors(tmp_path / "run" / "weights" / "pretext@patel_full.heads.cls.safetensors")[0]
    bench = Workbench(done.recipe, Runtime(torch.device("cpu")), RunFolder(tmp_path / "run"))
    operator = bench.objective(done.recipe.stage("classify@patel_full")).operator
    assert torch.equal(operator.code.linear1.weight, saved["code.linear1.weight"])
