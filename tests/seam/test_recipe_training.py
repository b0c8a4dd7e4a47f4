"""What a recipe says of how a stage is trained, and what ``medkit check`` refuses of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from commands import run_command

from medkit.engine.optimizers import Optimization
from medkit.engine.runtime import Runtime
from medkit.errors import InputError
from medkit.recipe import EarlyStop, load_recipe, recipe_from
from medkit.recipe.json_schema import json_schema
from medkit.recipe.training import training_in_words
from medkit.registry.plugins import registry
from medkit.runs.checks import check_turns
from medkit.runs.workbench import Workbench


def recipe(**stage: Any) -> dict[str, Any]:
    """One stage with an encoder and a head."""
    data = {"source": {"use": "phantoms:head_ct"}, "splits": {s: {"fold": s} for s in ("train", "val", "test")}}
    encoder = {"use": "timm", "model": "test_resnet"}
    objective = {"use": "multitask", "encoder": encoder, "heads": {"seg": {"use": "smartnet:scse_unet"}}}
    made = {"name": "s", "objective": objective, "metrics": ["dice"], **stage}
    return {"medkit": 1, "name": "small", "data": {"d": data}, "stages": [made]}


def problem(**stage: Any) -> str:
    with pytest.raises(InputError) as caught:
        recipe_from(recipe(**stage))
    return str(caught.value)


EVERYTHING: dict[str, Any] = {
    "clip": 1.0,
    "accumulate": 4,
    "optim": {"use": "adamw", "lr": 1e-3, "no_decay": True, "layer_decay": 0.75},
    "schedule": {"use": "cosine", "warmup": 50, "by": "step"},
    "early_stop": {"metric": "dice", "patience": 3, "min_delta": 0.01},
    "shard": {"encoder": True},
    "workers": 2,
}


def test_the_keys_of_training_are_read_and_read_back(tmp_path: Path) -> None:
    read = recipe_from(recipe(**EVERYTHING))
    stage = read.stages[0]
    assert (stage.clip, stage.accumulate, stage.workers, stage.shard) == (1.0, 4, 2, {"encoder": True})
    assert stage.early_stop == EarlyStop("dice", "val", 3, 0.01)
    assert load_recipe(read.write(tmp_path / "r.yaml")).resolved() == read.resolved()


def test_a_recipe_without_them_trains_as_before() -> None:
    stage = recipe_from(recipe()).stages[0]
    assert (stage.clip, stage.accumulate, stage.early_stop, stage.shard, stage.workers) == (None, 1, None, {}, 0)
    how = Optimization.of(stage.optim, stage.schedule)  # type: ignore[arg-type]
    assert (how.no_decay, how.layer_decay, how.by) == (False, None, "epoch")


def test_a_bound_on_gradients_may_be_a_component(tmp_path: Path) -> None:
    read = recipe_from(recipe(clip={"use": "norm", "limit": 0.5}))
    stage = read.stages[0]
    assert stage.clip.plain() == {"use": "medkit:norm", "limit": 0.5}  # type: ignore[union-attr]
    assert load_recipe(read.write(tmp_path / "r.yaml")).resolved() == read.resolved()
    assert "gradients bound by medkit:norm" in training_in_words(stage)


def test_each_turn_has_keys_of_its_own() -> None:
    objective = {
        "use": "adversarial",
        "generator": {"use": "baselines:red_cnn"},
        "discriminator": {"use": "mtdgan:multitask"},
        "generator_losses": {"l1": {"use": "l1"}},
        "discriminator_losses": {},
    }
    optim = {"generator": {"use": "adam", "no_decay": True}, "discriminator": "adam"}
    made = recipe(objective=objective, optim=optim, unit="patch", metrics=[])
    blocks = recipe_from(made).stages[0].optim
    assert isinstance(blocks, dict)
    assert (blocks["generator"].keys, blocks["discriminator"].keys) == ({"no_decay": True}, {})


@pytest.mark.parametrize(
    ("stage", "said"),
    [
        ({"clip": 0}, "stages.s.clip: 0 is not"),
        ({"clip": -1.0}, "stages.s.clip: -1.0 is not"),
        ({"clip": {"use": "norm"}}, "stages.s.clip: 'medkit:norm' needs 'limit'"),
        ({"clip": {"use": "nrm", "limit": 1}}, "did you mean 'medkit:norm'"),
        ({"clip": {"use": "norm", "limit": 0}}, "stages.s.clip.limit: 0 is not"),
        ({"clip": {"from": "s.encoder"}}, "stages.s.clip: a bound on gradients is not a part of an earlier stage"),
        ({"clip": [1.0]}, "stages.s.clip: [1.0] is not"),
        ({"accumulate": 0}, "stages.s.accumulate: 0 is not int > 0"),
        ({"workers": "some"}, "stages.s.workers: 'some' is not"),
        ({"workers": -1}, "stages.s.workers: -1 is not"),
        ({"optim": {"use": "adam", "layer_decay": 1.5}}, "stages.s.optim.layer_decay: 1.5 is not"),
        ({"optim": {"use": "adam", "layer_decay": 0}}, "stages.s.optim.layer_decay: 0 is not"),
        ({"optim": {"use": "adam", "no_decay": "yes"}}, "stages.s.optim.no_decay: 'yes' is not bool"),
        ({"optim": {"use": "adam", "no_dcay": True}}, "did you mean 'no_decay'?"),
        ({"schedule": {"use": "cosine", "by": "steps"}}, "stages.s.schedule.by: 'steps' is not 'epoch' or 'step'"),
        ({"schedule": {"use": "cosine", "no_decay": True}}, "takes no argument of that name"),
        ({"early_stop": {"metric": "dise"}}, "stages.s.early_stop: no metric is named 'dise'; the stage's metrics: dice; its losses: seg"),
        ({"early_stop": {"metric": "dice", "split": "test"}}, "split 'test' is not the one validated on ('val')"),
        ({"early_stop": {"metric": "dice", "patience": 0}}, "stages.s.early_stop.patience: 0 is not int > 0"),
        ({"early_stop": {"patience": 3}}, "'metric' is missing"),
        ({"shard": {"encodr": True}}, "stages.s.shard: the objective has no part 'encodr'; did you mean 'encoder'?"),
        ({"shard": {"encoder": 1}}, "stages.s.shard"),
        ({"optim": {"use": "timm", "name": "lamd"}}, "stages.s.optim: timm has no optimizer named 'lamd'; did you mean 'lamb"),
        ({"optim": {"use": "timm", "name": "lamb", "options": {"beta": 1}}}, "timm's 'lamb' does not take {'beta': 1}"),
        ({"optim": {"use": "timm"}}, "'medkit:timm' needs 'name'"),
    ],
    ids=str,
)  # fmt: skip
def test_mistakes_are_told_by_check(stage: dict[str, Any], said: str) -> None:
    assert said in problem(**stage)


def test_epochs_may_be_judged_by_a_loss() -> None:
    made = recipe(metrics=[], keep_best={"metric": "seg"}, early_stop={"metric": "seg"})
    assert recipe_from(made).stages[0].keep_best is not None


def test_rates_by_layer_want_an_encoder() -> None:
    objective = {"use": "restoration", "generator": "baselines:red_cnn", "losses": {"l1": "l1"}}
    said = problem(objective=objective, unit="patch", optim={"use": "adam", "layer_decay": 0.7})
    assert "stages.s.optim.layer_decay: it goes by the stages of an encoder, and the objective has none" in said


def test_an_encoder_of_an_earlier_stage_has_layers_too() -> None:
    made = recipe()
    objective = made["stages"][0]["objective"] | {"encoder": {"from": "s.encoder"}}
    made["stages"].append(made["stages"][0] | {"name": "t", "objective": objective, "optim": EVERYTHING["optim"]})
    assert recipe_from(made).stages[1].optim.keys["layer_decay"] == 0.75  # type: ignore[union-attr]


def test_the_json_schema_takes_the_keys_of_training() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = json_schema(registry())
    jsonschema.validate(recipe(**EVERYTHING), schema)
    for wrong in ({"clip": 0}, {"optim": {"use": "adam", "layer_decay": 2}}, {"early_stop": {"patience": 1}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(recipe(**wrong), schema)


def test_how_a_stage_is_trained_is_said_in_a_line() -> None:
    stage = recipe_from(recipe(**EVERYTHING)).stages[0]
    assert training_in_words(stage) == (
        "adamw 0.001 (norms and biases do not decay, 0.75 a layer), cosine by step, 4 items per step (1 per batch, 4 batches per step), gradients up to "
        "norm 1, ends after 3 epochs without a better dice on val (never: the stage has 1), encoder divided among the ranks"
    )


def checked(**stage: Any) -> None:
    """What a run checks of turns before it writes anything."""
    read = recipe_from(recipe(**stage))
    bench = Workbench(read, Runtime.start("cpu"))
    check_turns(read.stages[0], bench.objective(read.stages[0]))


def test_an_optimizer_that_could_not_be_resumed_is_refused_before_the_run() -> None:
    with pytest.raises(InputError, match=r"stages\.s\.optim: the optimizer keeps a dtype, .* could not be resumed"):
        checked(optim={"use": "timm", "name": "adafactorbv"})


PLUGIN = '''
import dataclasses
import torch
from medkit.api import hookimpl

@dataclasses.dataclass(frozen=True)
class Flat:
    lr: float = 0.1
    def build(self, parameters):
        flat = [p for item in parameters for p in (item["params"] if isinstance(item, dict) else [item])]
        return torch.optim.SGD(flat, self.lr, weight_decay=0.1)

class Negative:
    def rate(self, lr: float, epoch: int, epochs: int) -> float:
        return lr - epoch

class Named:
    """A schedule with an argument that is called as a key beside schedules is."""
    def __init__(self, by: str = "moon") -> None:
        self.by = by
    def rate(self, lr: float, epoch: int, epochs: int) -> float:
        return lr

@hookimpl
def medkit_register(registry):
    registry.optimizer("flat", "{module}:Flat", "one group, whatever it is given")
    registry.schedule("negative", "{module}:Negative", "falls below zero")
    registry.schedule("named", "{module}:Named", "has an argument of its own")
'''  # fmt: skip


def medkit(*arguments: str) -> tuple[int, str]:
    done = run_command(arguments, Path.cwd())
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("stage", "said"),
    [
        ({"optim": {"use": "flat", "no_decay": True}}, "stages.s.optim: the optimizer does not keep 'weight_decay'"),
        ({"schedule": "negative", "epochs": 4}, "the schedule gives the learning rate -"),
    ],
    ids=["groups", "rate"],
)
def test_a_plugins_settings_that_cannot_serve_are_refused_before_the_run(
    tmp_path: Path, stage: dict[str, Any], said: str
) -> None:
    (tmp_path / "settings_plugin.py").write_text(PLUGIN.replace("{module}", "settings_plugin"))
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(recipe(**stage)))
    code, told = medkit("run", str(tmp_path / "r.yaml"), "--plugin", str(tmp_path / "settings_plugin.py"), "--out", str(tmp_path / "out"), "--device", "cpu")  # fmt: skip
    assert (code, said in " ".join(told.split())) == (2, True), told
    assert not (tmp_path / "out").exists()


def test_an_argument_of_its_own_goes_before_the_key_beside_it(tmp_path: Path) -> None:
    (tmp_path / "settings_plugin.py").write_text(PLUGIN.replace("{module}", "settings_plugin"))
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(recipe(schedule={"use": "named", "by": "tide"})))
    code, told = medkit("check", str(tmp_path / "r.yaml"), "--plugin", str(tmp_path / "settings_plugin.py"))
    assert code == 0, told


def test_a_seeded_optimizer_is_the_one_it_was_before_there_were_groups() -> None:
    """The same object as the settings make of a flat list: bits of existing runs stay."""
    stage = recipe_from(recipe(optim={"use": "adam", "lr": 1e-3})).stages[0]
    bench = Workbench(recipe_from(recipe()), Runtime.start("cpu"))
    objective = bench.objective(stage)
    [turn] = objective.turns()
    made = Optimization.of(stage.optim, stage.schedule).build(objective, turn)  # type: ignore[arg-type]
    flat = torch.optim.Adam(list(objective.parameters()), 1e-3, fused=True)
    assert [len(g["params"]) for g in made.param_groups] == [len(g["params"]) for g in flat.param_groups]
    assert made.param_groups[0].keys() == flat.param_groups[0].keys()
