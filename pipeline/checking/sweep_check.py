"""Sweep check: how many runs a sweep is made of, what they start from, and whether each of them is free of errors."""

from collections import Counter
from collections.abc import Iterator

from pelagos.pipeline.checking.check_finding import CheckFinding, warning
from pelagos.pipeline.stages.sweep import SweepStage, SweepWork
from pelagos.preprocessing.errors import MissingFileError


def check_sweep(config: SweepStage) -> Iterator[CheckFinding]:
    """What is known of a sweep before it is begun.

    Raises:
        PelagosError: the configuration of a run has errors, or its data do not suffice.
    """
    runs = config.runs()
    counts = Counter(one.method for one in runs)
    listed = ", ".join(f"{number} of {method}" for method, number in counts.items())
    steps = sum(one.config.loop.steps for one in runs)
    yield CheckFinding(
        "runs", f"{len(runs)}: {listed}; {steps} optimiser steps in all", {"runs": len(runs), "steps": steps}
    )
    if len(config.seeds) < 3:
        yield warning(
            f"seeds: {len(config.seeds)} allow no interval that could be trusted; three are the least"
        )
    for name, method in config.baselines.items():
        if len(method.lr) < 3:
            yield warning(
                f"baselines.{name}.lr: fewer than three rates; gains over what was not tuned prove little"
            )
        if len(method.steps) < 2:
            yield warning(
                f"baselines.{name}.steps: a single length; fresh weights may need five times the steps of a fine-tuning"
            )
    try:
        work = SweepWork.of(config)
    except MissingFileError as error:
        # Not an error: a check may come before the training that makes the model.
        yield CheckFinding("note", str(error))
        return
    yield from map(warning, work.concerns())
    done = sum(work.result(one) is not None for one in runs)
    yield CheckFinding("done", f"{done} of {len(runs)} runs are scored", {"runs": done})
