"""One stage of a run: its cases prepared, its objective trained, its weights saved, its test splits measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medkit.data.cases import union
from medkit.engine.agreement import together
from medkit.engine.checkpoint import save_weights
from medkit.engine.events import Events, Images, Message
from medkit.engine.progress import Progress
from medkit.errors import MedkitError
from medkit.evaluation.evaluate import read_results, write_results
from medkit.recipe import Stage
from medkit.runs import begun, links, own_data
from medkit.runs.cost import Cost
from medkit.runs.folder import RunFolder
from medkit.runs.measure import measure
from medkit.runs.stage_trainer import StageTrainer
from medkit.runs.stress import stressed
from medkit.runs.trackers import pictures
from medkit.runs.trainers import trainer_of
from medkit.runs.workbench import Workbench


@dataclass(frozen=True)
class Session:
    """What the stages of a run share."""

    bench: Workbench
    folder: RunFolder
    progress: Progress
    events: Events
    link: bool | Sequence[Path] | None = False
    """Whether stages are taken from other runs, or from those in some folders; None: only say where they are."""

    @property
    def main(self) -> bool:
        return self.bench.runtime.is_main

    @property
    def roots(self) -> Sequence[Path | None]:
        """The folders whose runs share stages, that of this run first; None: all runs do."""
        return self.link if isinstance(self.link, Sequence) else (None,)

    def say(self, text: str) -> None:
        self.events.emit(Message(text))


def run_stage(session: Session, stage: Stage) -> dict[str, float]:
    """Train a stage and measure it; it is done when all of this is written. Returns the value of each SPLIT/METRIC.

    What another run has finished under the stage's key is taken from there, if the session links stages.
    """
    bench = session.bench
    cost = Cost(session.folder, session.main)
    tested = bench.evaluated_splits(stage)
    taken = take(session, stage)
    if taken is not None and taken.measured:
        with together(bench.runtime, f"the results of stage {stage.name}"):
            return _done(session, stage) if session.main else {}
    with together(bench.runtime, f"preparation of stage {stage.name}"):
        trainer = trainer_of(bench, stage, bench.objective(stage) if taken is None else bench.trained(stage))
        prepare(session, trainer, tested)
    ledger = check_seen(session, trainer, tested, trained=taken is not None)
    if taken is None:
        with cost.of(stage.name, "train_seconds", trainer.meter):
            trainer.train(session.progress, session.events)
        with together(bench.runtime, f"the weights of stage {stage.name}"):
            if session.main:
                keep_weights(session, trainer, ledger)
    values = evaluate_splits(session, trainer, tested, cost) | stress(session, trainer, cost)
    measure_own_data(session, trainer)
    with together(bench.runtime, f"the end of stage {stage.name}"):
        if session.main:
            links.finish(bench, stage, trainer.objective.parts(), session.roots[0])
            session.folder.mark_done(stage.name)
    return values


def take(session: Session, stage: Stage) -> links.Trained | None:
    """Note the stage's key, and take over what another run has trained under it; on all ranks alike."""
    bench, found = session.bench, None
    what = f"a look at whether stage {stage.name} is already trained"
    with together(bench.runtime, what):
        if session.main:
            begun.keep(bench, stage)
            key = links.begin(bench, stage)
            if key is not None and not links.begun(session.folder, stage.name):
                found = links.find(bench, stage, key, session.roots)
            found = _link(session, stage, found) if found is not None else None
    taken: links.Trained | None = bench.runtime.strategy.share(found, what)
    if taken is not None:
        bench.seen.look_again()
    return taken


def _link(session: Session, stage: Stage, found: links.Trained) -> links.Trained | None:
    """Link a stage if that is wanted; else say that it could be."""
    there = found.folder.path
    if not session.link:
        if session.link is None:
            session.say(f"{stage.name}: trained already in {there} under the same key; --link takes it from there")
        return None
    try:
        evaluated, points = session.bench.evaluated_splits(stage), session.bench.recipe.points(stage)
        taken = links.link(found, session.folder, evaluated, points)
    except MedkitError as error:
        session.say(f"{stage.name}: trained already in {there} under the same key, but it is trained again: {error}")
        return None
    differs = "what is measured here differs" if not found.measured else "not all of its results are there"
    told = "linked with its results" if taken.measured else f"linked; {differs}"
    session.say(f"{stage.name}: trained already in {there} under the same key; {told}")
    return taken


def _done(session: Session, stage: Stage) -> dict[str, float]:
    """A stage that was linked together with its results is done."""
    links.finish(session.bench, stage, session.folder.key(stage.name)["weights"], session.roots[0])
    session.folder.mark_done(stage.name)
    measured = session.folder.file("results.json").is_file()  # not where the stage is tested on nothing
    found = read_results(session.folder.path).get(stage.name, {}) if measured else {}
    return {f"{split}/{name}": value.value for split, values in found.items() for name, value in values.items()}


def prepare(session: Session, trainer: StageTrainer, tested: Sequence[str]) -> None:
    """Prepare the cases of all splits that the stage touches; each rank takes its share."""
    runtime, stage = session.bench.runtime, trainer.stage
    dataset = session.bench.dataset(stage)
    splits = trainer.prepared(tested)
    parts = [dataset.cases(split) for split in splits if split != stage.train or split in tested]
    wanted = union([*([session.bench.cases.train(stage)] if stage.train in splits else []), *parts])
    with session.progress.task(f"{stage.name}: preparing", total=len(wanted)) as advance:
        dataset.prepare_all(wanted[runtime.rank :: runtime.world_size], progress=advance, jobs=session.bench.jobs)


def check_seen(session: Session, trainer: StageTrainer, tested: Sequence[str], trained: bool) -> str:
    """Refuse to test on images that were seen in training; returns the ledger for the stage's weights.

    One that is already trained has the ledger that it was trained with.
    """
    bench, stage = session.bench, trainer.stage
    with together(bench.runtime, f"a look at the images of stage {stage.name}"):
        if not trained:
            trainer.look()
        bench.seen.check_images(stage, tested)
        if not session.main:
            return ""
        for text in bench.dataset(stage).told():
            if session.folder.add_notice(text):
                session.say(f"{stage.name}: {text}")
        return "" if trained else bench.seen.write(stage)


def keep_weights(session: Session, trainer: StageTrainer, ledger: str) -> None:
    for name, module in trainer.objective.parts().items():
        save_weights(session.folder.weights(trainer.stage.name, name), module, ledger)


def evaluate_splits(session: Session, trainer: StageTrainer, tested: Sequence[str], cost: Cost) -> dict[str, float]:
    """Measure the trained stage on its test splits and keep the numbers, one split after the other."""
    bench, stage = session.bench, trainer.stage
    metrics: list[Any] = bench.metrics(stage)
    values: dict[str, float] = {}
    for split in tested:
        with cost.of(stage.name, "evaluate_seconds", trainer.meter):
            found = measure(bench, trainer, metrics, split, session.progress)
        with together(bench.runtime, f"the results of stage {stage.name}, {split}"):
            if found is not None:
                found = bench.seen.counted(stage, found)
                write_results(session.folder.path, found)
                session.say(f"{stage.name} {split}: {found.summary()}")
                if found.examples and session.events.wants(Images):
                    session.events.emit(Images(stage.name, split, stage.epochs, pictures(found.examples)))
                values |= {f"{split}/{name}": value.value for name, value in found.values.items()}
    return values


def stress(session: Session, trainer: StageTrainer, cost: Cost) -> dict[str, float]:
    """Measure the trained stage at the doses that the report's curves have, and keep the numbers."""
    bench, stage = session.bench, trainer.stage
    if not bench.recipe.stressed(stage):
        return {}
    with cost.of(stage.name, "evaluate_seconds", trainer.meter):
        found = stressed(bench, trainer, bench.metrics(stage), session.progress)
    values: dict[str, float] = {}
    with together(bench.runtime, f"the curves of stage {stage.name}"):
        for one in found:
            write_results(session.folder.path, one)
            session.say(f"{stage.name} {one.split}: {one.summary()}")
            values |= {f"{one.split}/{name}": value.value for name, value in one.values.items()}
    return values


def measure_own_data(session: Session, trainer: StageTrainer) -> None:
    """Measure the trained stage on cases that it was trained on, if the recipe asks for it."""
    bench, stage = session.bench, trainer.stage
    most = bench.recipe.report.own_data
    if most is None:
        return
    found = own_data.on_own_data(bench, trainer, bench.metrics(stage), most)
    with together(bench.runtime, f"the results of stage {stage.name} on its own training data"):
        if session.main:
            own_data.keep(session.folder, stage.name, found)
            for one in found[:1]:
                beaten = "" if one.beaten else ": the trivial answer is not beaten"
                session.say(f"{stage.name}, training data: {one.told}{beaten}")
