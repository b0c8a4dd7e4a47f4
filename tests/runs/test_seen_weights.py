"""Weights bring along whom they have seen: those of a run in its ledgers, those from elsewhere in a file beside them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import go_on
from seen_recipes import REASON, block, recipe, refused, reported, run, stage, weights

from medkit.data.ledger import Ledger, digests, read_ledger
from medkit.errors import InputError
from medkit.runs.measure import evaluate_again


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDKIT_CACHE", str(tmp_path_factory.getbasetemp() / "seen-cache"))


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that trained on what other recipes test on."""
    folder = tmp_path_factory.mktemp("first")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDKIT_CACHE", str(tmp_path_factory.getbasetemp() / "seen-cache"))
        plain = recipe(stage("first", train="both", validate="val", evaluate=["other"]))
        plain["data"]["d"] = block(both={"id": ["A0000", "A0004"]}, val={"fold": "val"}, other={"id": ["A0005"]})
        return run({**plain, "name": "earlier", "report": {"maps": {"cases": 0}}}, folder / "run")


def test_weights_of_another_run_are_refused_like_an_earlier_stage(first: Path, tmp_path: Path) -> None:
    text = refused(recipe(stage("classify", weights(first))), tmp_path / "run")
    assert "1 of 2 patients was trained on in stage 'first' of 'earlier' (split 'both' of 'd'): A0004" in text


def test_weights_hand_their_ledger_on(first: Path, tmp_path: Path) -> None:
    plain = recipe(stage("classify", weights(first)), report={"allow_seen": REASON})
    folder = run(plain, tmp_path / "run")
    ledger = read_ledger(folder / "weights" / "classify.encoder.safetensors")
    assert ledger is not None
    stages = [(entry.recipe, entry.stage, entry.role) for entry in ledger.entries]
    assert stages == [
        ("earlier", "first", "train"),
        ("earlier", "first", "validate"),
        ("t", "classify", "train"),
        ("t", "classify", "validate"),
    ]


def test_a_ledger_holds_digests_and_no_names(first: Path) -> None:
    path = first / "weights" / "first.encoder.safetensors"
    assert b"A0004" not in path.read_bytes()
    ledger = read_ledger(path)
    assert ledger is not None
    assert np.array_equal(ledger.entries[0].patients, digests("phantoms:head_ct 0", ["A0004", "A0000"]))


def test_weights_of_which_nothing_is_known_are_told(first: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    save_file(load_file(first / "weights" / "first.encoder.safetensors"), tmp_path / "foreign.safetensors")
    folder = reported(recipe(stage("classify", weights(tmp_path, "foreign"))), tmp_path / "run")
    assert "not known: &#39;foreign.safetensors&#39;" in (folder / "report.html").read_text()
    ledger = read_ledger(folder / "weights" / "classify.encoder.safetensors")
    assert ledger is not None
    assert [Path(name).name for name in ledger.unknown] == ["foreign.safetensors"]


def test_a_file_beside_foreign_weights_says_whom_they_saw(first: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    save_file(load_file(first / "weights" / "first.encoder.safetensors"), tmp_path / "foreign.safetensors")
    plain = {"ledger": 1, "entries": [{"space": "phantoms:head_ct 0", "patients": ["A0005 "]}]}
    (tmp_path / "foreign.ledger.json").write_text(json.dumps(plain))
    text = refused(recipe(stage("classify", weights(tmp_path, "foreign"))), tmp_path / "run")
    assert "1 of 2 patients was trained on by weights that it starts from: A0005" in text


def test_a_broken_ledger_is_refused_with_its_file(first: Path, tmp_path: Path) -> None:
    (tmp_path / "w.ledger.json").write_text('{"ledger": 1, "entries": [{"role": "seen", "patients": []}]}')
    with pytest.raises(InputError, match=r"w\.ledger\.json: this is not a ledger: role 'seen' is not one of"):
        read_ledger(tmp_path / "w.safetensors")


BY_HAND: dict[str, tuple[Any, str]] = {
    "one entry": ({"patients": ["A0005"]}, "'entries' is a list of mappings"),
    "names for entries": (["A0005"], "'entries' is a list of mappings"),
    "one name": ([{"patients": "A0005"}], "'patients' is a list of texts"),
    "a list in a list": ([{"patients": [["A0005"]]}], "'patients' is a list of texts"),
    "numbers, which have lost their zeros": ([{"patients": [7]}], "'patients' is a list of texts"),
    "no space": ([{"space": None, "patients": ["A0005"]}], "'space' is a text"),
    "a misspelt space": ([{"spaces": "east", "patients": ["A0005"]}], "an entry has no key 'spaces'"),
    "no patients": ([{"role": "train"}], "'patients' is missing"),
}


@pytest.mark.parametrize(("entries", "said"), BY_HAND.values(), ids=BY_HAND)
def test_a_ledger_that_would_say_less_than_was_meant_is_refused(tmp_path: Path, entries: Any, said: str) -> None:
    (tmp_path / "w.ledger.json").write_text(json.dumps({"ledger": 1, "entries": entries}))
    with pytest.raises(InputError, match=rf"w\.ledger\.json: this is not a ledger: {said}"):
        read_ledger(tmp_path / "w.safetensors")


@pytest.mark.parametrize("content", [b"\xff", b"[]", b"", b'{"ledger": 1, "entries": [], "sets": []}', b"[" * 100_000])
def test_what_is_no_ledger_at_all_is_refused_with_its_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "w.ledger.json").write_bytes(content)
    with pytest.raises(InputError, match=r"w\.ledger\.json: "):
        read_ledger(tmp_path / "w.safetensors")


def test_equal_runs_write_equal_ledgers(first: Path) -> None:
    text = (first / "ledgers" / "first.json").read_text()
    assert Ledger.from_text(text, "here").text() == text


def test_a_resumed_run_keeps_the_ledger(tmp_path: Path) -> None:
    folder = run(recipe(stage("classify")), tmp_path / "run")
    path = folder / "weights" / "classify.encoder.safetensors"
    before, ledger = (folder / "ledgers" / "classify.json").read_bytes(), read_ledger(path)
    (folder / "state.json").write_text('{"done": []}')  # as if it had ended before it was told that the stage is done
    path.unlink()
    go_on(folder, device="cpu", quiet=True)
    after = read_ledger(path)
    assert (folder / "ledgers" / "classify.json").read_bytes() == before
    assert ledger is not None
    assert after is not None
    assert after.text() == ledger.text()


def test_evaluating_a_run_on_its_training_patients_is_refused_and_can_be_allowed(first: Path) -> None:
    with pytest.raises(InputError, match="2 of 2 patients were trained on"):
        evaluate_again(first, "both", device="cpu")
    (found,) = evaluate_again(first, "both", device="cpu", allow_seen=REASON)
    assert found.values["auc"].seen == 2
    assert json.loads((first / "seen.json").read_text())["first"]["both"]["reason"] == REASON


def test_a_permission_to_evaluate_needs_a_reason_too(first: Path) -> None:
    with pytest.raises(InputError, match="no reason is given"):
        evaluate_again(first, "both", device="cpu", allow_seen=" ")
