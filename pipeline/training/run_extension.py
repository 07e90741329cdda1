"""Run extension: a run that is given more steps goes on, where it then is what a longer one would have been.

That holds to the last bit where nothing that was done depends on how many steps there were to be: under learning rates
that do not fall towards the last step, and where no choice of weights saw a validation at the old last step.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pelagos.pipeline.engine import checkpoint
from pelagos.pipeline.runs import run_folder
from pelagos.pipeline.runs.configuration import dump, mapping_in
from pelagos.pipeline.training.schedule import ScheduleConfig
from pelagos.pipeline.training.trainer import LoopConfig
from pelagos.preprocessing.config import Config
from pelagos.preprocessing.errors import ConfigError
from pelagos.preprocessing.files.durable import write_bytes, write_json

_ENDLESS = ("constant", "restarts")
"""Schedules whose rates do not depend on the number of steps."""


def extend(folder: Path, config: Config, loop: LoopConfig, schedule: ScheduleConfig) -> None:
    """Let the run in a folder have the steps of a configuration that differs from its own in nothing else.

    Args:
        folder: of the run.
        config: of its stage.
        loop: of that configuration.
        schedule: of that configuration.

    Raises:
        ConfigError: it would not be what a run of so many steps is.
    """
    before = steps_before(folder, config, loop, schedule)
    if before is None:
        return
    held = run_folder.record(folder)
    # In an order in which a kill after each leaves a run that can be extended, or has been.
    write_json(folder / run_folder.CLAIM, {**held, "steps": before})
    (folder / run_folder.DONE).unlink(missing_ok=True)
    write_bytes(folder / "config.yaml", dump(config).encode())
    own = run_folder.fingerprint(config, changeable=True)
    extended = [*held.get("extended", []), before]
    write_json(folder / run_folder.CLAIM, {**held, "config": own, "steps": loop.steps, "extended": extended})
    print(f"extended: the run in {folder} goes on from its newest checkpoint to step {loop.steps}")


def steps_before(folder: Path, config: Config, loop: LoopConfig, schedule: ScheduleConfig) -> int | None:
    """How many steps the run in a folder has, of which a configuration that differs in nothing else has more.

    None where there is nothing to extend; raises as `extend` does.
    """
    held = run_folder.record(folder)
    if "config" not in held or held["config"] == run_folder.fingerprint(config, changeable=True):
        return None  # another kind of folder, or the run as it is
    before = held.get("steps") or _recorded_steps(folder)
    shorter = config.model_copy(update={"loop": loop.model_copy(update={"steps": before})})
    if not before or held["config"] != run_folder.fingerprint(shorter, changeable=True):
        return None  # differs in more, which is told by whoever claims the folder
    if obstacles := list(_obstacles(folder, loop, schedule.kind, before)):
        raise ConfigError(
            f"{folder} holds this run with loop.steps: {before}, and {loop.steps} cannot follow:"
            f" {'; '.join(obstacles)}. Give this one another output=FOLDER"
        )
    return int(before)


def _recorded_steps(folder: Path) -> int:
    file = folder / "config.yaml"
    loop: Any = mapping_in(file).get("loop") if file.is_file() else None
    steps = loop.get("steps") if isinstance(loop, dict) else None
    return steps if isinstance(steps, int) else 0


def _obstacles(folder: Path, loop: LoopConfig, kind: str, before: int) -> Iterator[str]:
    """Why the run would not be what a run of so many steps is."""
    if loop.steps < before:
        yield "a run cannot be made shorter"
        return
    if kind not in _ENDLESS:
        yield (
            f"its learning rate has followed schedule.kind: {kind} over {before} steps, and would have been another"
            f" over {loop.steps} (only {' and '.join(_ENDLESS)} do not depend on it)"
        )
    chooses = loop.patience or loop.kept == "best"
    if chooses and loop.validate_every and before % loop.validate_every:
        yield (
            f"its best weights may be those of step {before}, where a longer run has no validation"
            f" (validate_every: {loop.validate_every} does not divide it)"
        )
    newest = checkpoint.latest(folder / "checkpoints")
    reached = int(newest.name.removeprefix("step-")) if newest is not None else 0
    finished = (folder / run_folder.DONE).is_file()
    if loop.patience and finished and reached < before:
        yield f"loop.patience ended it at step {reached}"
