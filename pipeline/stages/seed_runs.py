"""Seed runs: one training with several seeds, each in a folder of its own, and how far their losses lie apart."""

import json
import re
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from pelagos.pipeline.engine import distributed
from pelagos.pipeline.runs import run_folder, run_inputs
from pelagos.pipeline.runs.progress import console
from pelagos.pipeline.runs.remarks import say
from pelagos.pipeline.training import training_run
from pelagos.pipeline.training.training_run import TrainingStage
from pelagos.preprocessing.errors import DamagedFileError
from pelagos.preprocessing.files.durable import write_json

SUMMARY = "seeds.json"


def seed_folders(folder: Path) -> dict[int, Path]:
    """The folders of runs in a folder of several seeds, by seed; none in another folder."""
    found = {
        int(file.parent.name.removeprefix("seed")): file.parent
        for file in folder.glob(f"seed*/{run_folder.CLAIM}")
        if re.fullmatch(r"seed(0|[1-9]\d*)", file.parent.name)
    }
    return dict(sorted(found.items()))


def run_seeds(runs: Sequence[TrainingStage], folder: Path, kept: Sequence[TrainingStage] = ()) -> Path:
    """Train with each seed, or continue where that was interrupted; returns the folder of all.

    Args:
        runs: which differ in their seed alone.
        folder: of the runs' folders; it gets `seeds.json`, the last held-out losses by name and seed.
        kept: the same with the other seeds that the folder holds, which are reported, not trained.

    Raises:
        ConfigError: a seed's folder holds another run; nothing has been trained then.
    """
    _check_folders((*runs, *kept))
    for number, one in enumerate(runs, start=1):
        if distributed.rank() == 0:
            console().print(f"[bold]{number}/{len(runs)}  seed {one.seed}[/bold]")
        training_run.run(one)
    if distributed.rank() == 0:
        _say_if_models_differ(runs)
        found = {one.seed: held_out_losses(one) for one in (*runs, *filter(_comparable, kept))}
        names = dict.fromkeys(name for by in found.values() for name in by)
        losses = {name: {seed: by[name] for seed, by in found.items() if name in by} for name in names}
        write_json(
            folder / SUMMARY, {name: {str(k): v for k, v in by.items()} for name, by in losses.items()}
        )
        print("\n".join(loss_table(losses)), flush=True)
    return folder


def recorded_losses(folder: Path) -> dict[str, dict[int, float]]:
    """The held-out losses that the last command in a folder of several seeds left, by name and seed; none before it.

    Raises:
        DamagedFileError: the file is damaged.
    """
    file = folder / SUMMARY
    try:
        found = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        return {name: {int(seed): value for seed, value in by.items()} for name, by in found.items()}
    except (ValueError, AttributeError) as error:
        raise DamagedFileError(
            f"{file} is damaged: {error}; the command that trained the seeds writes it anew"
        ) from error


def _check_folders(runs: Sequence[TrainingStage]) -> None:
    """Refuse all before the first is trained: else a new seed would be, and lie beside old ones of another kind."""
    distributed.start()
    with distributed.fail_together():
        if distributed.rank() == 0:
            for one in runs:
                if run_folder.record(one.output):
                    training_run.check_folder(one)


def _comparable(one: TrainingStage) -> bool:
    """Whether a run that this command did not train is whole; says so of one that is not."""
    if not (one.output / run_folder.DONE).is_file():
        lack = "is not finished"
    elif run_folder.record(one.output).get("config") != run_folder.fingerprint(one, changeable=True):
        lack = "has fewer steps"  # all else is the same: its folder has been checked
    else:
        return True
    say(f"note: {one.output} {lack}, and is left out of {SUMMARY}")
    return False


def _say_if_models_differ(runs: Sequence[TrainingStage]) -> None:
    """Say where an alias has moved between one run's first start and another's."""
    began = [run_inputs.recorded(one.output, "model") for one in runs]
    if len(found := dict.fromkeys(one.found for one in began if one is not None)) > 1:
        say(f"WARNING: the seeds began with different models: {', '.join(found)}")


def held_out_losses(config: TrainingStage) -> dict[str, float]:
    """The held-out losses of a run's model by name: of its last validation, or of the best where it kept that."""
    file = config.output / "metrics.jsonl"
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    validations: dict[float, dict[str, float]] = {}
    for record in map(json.loads, lines):
        losses = {
            name: value for name, value in record.items() if name.startswith(("valid/", "valid_rollout/"))
        }
        if losses:
            validations.setdefault(record["step"], {}).update(losses)
    if not validations:
        return {}
    last = validations[max(validations)]
    if config.loop.kept == "last":
        return last
    # As the trainer decides: by rollouts where there are any.
    kind = "valid_rollout/" if any(name.startswith("valid_rollout/") for name in last) else "valid/"
    return min(
        validations.values(),
        key=lambda losses: sum(value for name, value in losses.items() if name.startswith(kind)),
    )


def loss_table(losses: Mapping[str, Mapping[int, float]]) -> list[str]:
    """A line for each loss: its median over seeds, the extremes, and all of them.

    >>> loss_table({"valid/waves": {0: 0.25, 1: 0.5, 2: 0.3}})
    ['valid/waves: median 0.3, from 0.25 to 0.5 (seed 0: 0.25, seed 1: 0.5, seed 2: 0.3)']
    """
    if not losses:
        return ["no held-out losses: the store has no valid split"]
    return [
        f"{name}: median {statistics.median(found.values()):.4g}, from {min(found.values()):.4g} to"
        f" {max(found.values()):.4g} ({', '.join(f'seed {seed}: {value:.4g}' for seed, value in found.items())})"
        for name, found in losses.items()
    ]
