"""Where a process stands among the ranks of a run, as its environment says."""

from __future__ import annotations

import pytest

from medkit.engine import ranks
from medkit.engine.ranks import Place, agreed, place, rendezvous
from medkit.errors import ElsewhereError, InputError

STEP = {
    "SLURM_JOB_ID": "12",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_STEP_NODELIST": "n[1-2]",
}


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({}, Place()),
        ({"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}, Place(1, 1, 2, "torchrun", 2)),
        ({"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}, Place(3, 1, 4, "torchrun", 2)),
        (STEP, Place(3, 1, 4, "srun")),
        ({**STEP, "SLURM_STEP_NUM_TASKS": "1"}, Place()),
        ({**STEP, "WORLD_SIZE": "1"}, Place(0, 0, 1, "torchrun")),
    ],
    ids=["alone", "torchrun", "torchrun on two machines", "srun", "srun with one task", "one rank inside a step"],
)
def test_the_environment_names_the_place(environ: dict[str, str], wanted: Place) -> None:
    assert place(environ) == wanted


def test_a_batch_script_is_no_rank_of_its_job() -> None:
    assert place({"SLURM_JOB_ID": "12", "SLURM_NTASKS": "4", "SLURM_PROCID": "0"}) == Place()


def test_a_place_that_is_no_number_is_told() -> None:
    with pytest.raises(InputError, match="RANK=one in the environment is not a number"):
        place({"RANK": "one", "WORLD_SIZE": "2"})


def test_tasks_of_slurm_meet_at_the_address_of_the_first_node(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {("hostnames", "n[1-2]"): "n1\nn2\n", ("node", "n1", "-o"): "NodeName=n1 NodeAddr=10.0.0.7 CPUs=2"}
    monkeypatch.setattr(ranks, "_scontrol", lambda *words: said[words])
    first, second = (rendezvous(place(STEP), STEP | {"SLURM_STEP_ID": step}) for step in "01")
    assert first.startswith("tcp://10.0.0.7:2")
    assert first != second  # two steps of a job at once


def test_tasks_on_one_machine_ask_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(ranks, "_scontrol")
    alone = STEP | {"SLURM_STEP_NUM_NODES": "1"}
    assert rendezvous(place(alone), alone).startswith("tcp://127.0.0.1:")


def test_what_a_job_script_says_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(ranks, "_scontrol")
    environ = STEP | {"MASTER_ADDR": "fe80::1", "MASTER_PORT": "29501"}
    assert rendezvous(place(environ), environ) == "tcp://[fe80::1]:29501"


def test_without_an_address_the_error_says_what_to_export(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "_scontrol", lambda *words: "")
    with pytest.raises(InputError, match="export MASTER_ADDR="):
        rendezvous(place(STEP), STEP)


class Rank:
    """One of two ranks, of which some have failed."""

    world_size = 2

    def __init__(self, rank: int, failed: list[bool]) -> None:
        self.rank, self.failed = rank, failed

    def gather(self, mine: bool, what: str) -> list[bool]:
        assert mine == self.failed[self.rank]
        return self.failed if self.rank == 0 else []

    def share(self, mine: int | None, what: str) -> int | None:
        return self.failed.index(True) if True in self.failed else None


def wrong() -> None:
    raise InputError("mine")


def test_the_first_rank_that_failed_says_why() -> None:
    with pytest.raises(InputError, match="mine"):
        agreed(Rank(0, [True, True]), wrong, "the recipe")
    with pytest.raises(ElsewhereError) as caught:
        agreed(Rank(1, [True, True]), wrong, "the recipe")
    assert caught.value.exit_code == InputError.exit_code


def test_a_rank_that_has_not_failed_ends_with_the_one_that_has() -> None:
    with pytest.raises(ElsewhereError):
        agreed(Rank(0, [False, True]), lambda: 1, "the recipe")
    assert agreed(Rank(0, [False, False]), lambda: 1, "the recipe") == 1
