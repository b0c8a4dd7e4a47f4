"""Features of an encoder: computed once, the same whoever stands beside, made again where they do not hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from medkit.data.dataset import Dataset
from medkit.data.volume import Volume
from medkit.engine.runtime import Runtime
from medkit.evaluation.features import Encoding, Features, encoding_key
from medkit.parts.encoders import TimmEncoder
from medkit.protocols import Case, Record
from medkit.registry.plugins import registry

RUNTIME = Runtime(torch.device("cpu"))


@pytest.fixture(scope="module")
def encoder() -> TimmEncoder:
    torch.manual_seed(0)
    return TimmEncoder("test_resnet").eval()


def dataset(cache: Path | None, **arguments: object) -> Dataset:
    source = registry().resolve("source", "phantoms:head_ct").load()
    made = source(patients=4, size=(48, 48), slices=5, **arguments)
    return Dataset(made, {"all": {"center": ["A", "B", "C"]}}, cache_dir=cache)


def features(encoder: TimmEncoder, data: Dataset, batch: int = 8) -> Features:
    def encode(images: torch.Tensor) -> torch.Tensor:
        return encoder(images)[-1].mean((2, 3))

    return Features(data, Encoding(encode, encoding_key(encoder, "mean", batch, RUNTIME), batch), RUNTIME)


def test_features_are_what_the_encoder_makes_of_the_prepared_slices(encoder, tmp_path):
    data = dataset(tmp_path)
    found, cases = features(encoder, data), data.cases("all")
    assert found.compute(cases) == 4
    for case in cases:
        images = torch.from_numpy(np.array(data.sample(case).image))[:, None].float()
        with torch.inference_mode():
            expected = encoder(images)[-1].mean((2, 3)).numpy()
        assert np.allclose(found.of(case).features, expected, atol=1e-5)
        assert found.of(case).positive.tolist() == data.sample(case).native_mask.any((1, 2)).tolist()


def test_features_of_a_case_do_not_depend_on_the_cases_beside_it(encoder, tmp_path):
    together, alone = dataset(tmp_path / "a"), dataset(tmp_path / "b")
    cases = together.cases("all")
    all_of_them, one_by_one = features(encoder, together), features(encoder, alone)
    all_of_them.compute(cases)
    for case in reversed(cases):
        assert np.array_equal(one_by_one.of(case).features, all_of_them.of(case).features)


def test_features_are_computed_once_for_all_who_ask(encoder, tmp_path):
    data = dataset(tmp_path)
    cases = data.cases("all")
    assert features(encoder, data).compute(cases[:3]) == 3
    assert features(encoder, dataset(tmp_path)).compute(cases) == 1
    assert features(encoder, dataset(tmp_path)).compute(cases) == 0


def test_other_weights_have_other_features(encoder, tmp_path):
    data = dataset(tmp_path)
    features(encoder, data).compute(data.cases("all"))
    other = TimmEncoder("test_resnet").eval()
    other.load_state_dict(encoder.state_dict())
    assert features(other, data).compute(data.cases("all")) == 0
    with torch.no_grad():
        next(other.parameters())[0] += 1e-3
    assert features(other, data).compute(data.cases("all")) == 4


def test_damaged_features_are_made_again(encoder, tmp_path, capsys):
    data = dataset(tmp_path)
    cases = data.cases("all")
    features(encoder, data).compute(cases)
    kept = np.array(features(encoder, data).of(cases[1]).features)
    (shard,) = (tmp_path / "features" / "shards").glob("*.shard")
    content = bytearray(shard.read_bytes())
    at = bytes(content).index(kept.tobytes())
    content[at + 5] ^= 1
    shard.write_bytes(content)
    again = features(encoder, dataset(tmp_path)).of(cases[1]).features
    assert "damaged" in capsys.readouterr().err
    assert np.array_equal(again, kept)


def test_without_a_cache_features_are_kept_in_memory(encoder):
    data = dataset(None)
    found = features(encoder, data)
    assert found.compute(data.cases("all")) == 4
    assert found.compute(data.cases("all")) == 0
    assert features(encoder, data).compute(data.cases("all")) == 4


class TwoSizes:
    """Cases of 32 x 32 and 48 x 48 pixels."""

    def cases(self) -> list[Case]:
        return [Case(f"c{i}", f"p{i}") for i in range(4)]

    def load(self, case: Case) -> Record:
        rng = np.random.default_rng(int(case.id[1:]))
        side = 32 if case.id in ("c0", "c2") else 48
        return Record(Volume(rng.random((3, side, side), np.float32), np.eye(4)))

    def identity(self, case: Case) -> str:
        return case.id


def test_slices_of_different_size_are_encoded_each_in_its_own(encoder, tmp_path):
    data = Dataset(TwoSizes(), {"all": {"patient": ["p0", "p1", "p2", "p3"]}}, cache_dir=tmp_path)
    found, cases = features(encoder, data, batch=4), data.cases("all")
    found.compute(cases)
    for case in cases:
        images = torch.from_numpy(np.array(data.sample(case).image))[:, None]
        with torch.inference_mode():
            expected = encoder(images)[-1].mean((2, 3)).numpy()
        assert np.allclose(found.of(case).features, expected, atol=1e-5)
