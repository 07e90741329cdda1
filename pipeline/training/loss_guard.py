"""Loss guard: finds steps whose loss is not finite or a spike, and the samples that caused it."""

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from pelagos.pipeline.engine import distributed
from pelagos.preprocessing.config import Config
from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.samples.dataset import Dataset

MEMORY = 0.98
"""Decay of the moving averages of losses per step: a memory of about 50 steps."""


class BadStepError(DataError):
    """A loss was not finite, or a spike, and training is not to go on."""

    exit_code = 65  # EX_DATAERR of sysexits.h, by which a sweep knows it of another process


class GuardConfig(Config):
    """When a step is bad, and what is done about it.

    Attributes:
        bad: whether training stops at a bad step or skips it, so that neither weights nor moments change.
        spike: a micro-batch's loss is bad above this many times the moving average of its dataset; with 0 only a loss
            that is not finite is. The average starts anew when a curriculum lengthens the dataset's samples.
        warmup: the number of steps that an average includes before spikes are looked for.
        patience: the number of bad steps in a row at which training stops.
    """

    bad: Literal["stop", "skip"] = "stop"
    spike: float = Field(default=0.0, ge=0)
    warmup: int = Field(default=100, ge=0)
    patience: int = Field(default=10, gt=0)


@dataclass(frozen=True, eq=False)
class MicroBatchLosses:
    """The losses of a micro-batch that was trained on.

    Attributes:
        dataset: the identifier of its dataset.
        steps: the number of forecast steps of each sample.
        index: (B, 3) trajectory, initial and last frame of each sample.
        losses: (B,) loss of each sample.
    """

    dataset: str
    steps: int
    index: Tensor
    losses: Tensor


@dataclass
class _Mean:
    """The moving average of a dataset's losses, of samples with this many forecast steps."""

    steps: int = 0
    sum: float = 0.0
    weight: float = 0.0
    seen: int = 0

    def take(self, loss: float, steps: int) -> None:
        """Include a step's loss."""
        # Losses of longer rollouts are larger: a curriculum's next stage must not look like a spike.
        if steps != self.steps:
            self.steps, self.sum, self.weight, self.seen = steps, 0.0, 0.0, 0
        self.sum = MEMORY * self.sum + (1 - MEMORY) * loss
        self.weight = MEMORY * self.weight + (1 - MEMORY)
        self.seen += 1


class LossGuard:
    """Judges the losses of a run; its state is the same on all processes.

    Attributes:
        skipped: the number of steps that were not taken.
    """

    def __init__(self, config: GuardConfig, datasets: Sequence[Dataset], file: Path) -> None:
        self._config, self._file = config, file
        self._datasets = {dataset.layout.dataset: dataset for dataset in datasets}
        self._means = {name: _Mean() for name in self._datasets}
        self.skipped, self._in_a_row = 0, 0

    def state(self) -> dict[str, Any]:
        """What a checkpoint's JSON holds."""
        means = {name: asdict(mean) for name, mean in self._means.items()}
        return {"means": means, "skipped": self.skipped, "in_a_row": self._in_a_row}

    def load(self, state: Mapping[str, Any]) -> None:
        """Continue from the state of a checkpoint."""
        self._means = {name: _Mean(**values) for name, values in state["means"].items()}
        self.skipped, self._in_a_row = state["skipped"], state["in_a_row"]

    def limit(self, dataset: str, steps: int) -> float:
        """The largest loss of a micro-batch with this many forecast steps that is not a spike."""
        mean = self._means[dataset]
        known = mean.steps == steps and mean.seen >= max(1, self._config.warmup)
        return self._config.spike * mean.sum / mean.weight if self._config.spike and known else math.inf

    def nan_if_spike(self, loss: Tensor, dataset: str, steps: int) -> Tensor:
        """The loss, or NaN if it is a spike."""
        # NaN reaches the gradient's norm on all processes, so that all leave the step out: they agree without a message
        # of their own, and without waiting for the device.
        limit = self.limit(dataset, steps)
        return loss if limit == math.inf else torch.where(loss.detach() > limit, loss * math.nan, loss)

    def judge(self, step: int, grad_norm: float, judged: Sequence[MicroBatchLosses]) -> bool:
        """Whether the step was taken; if not, the samples at fault are reported.

        Raises:
            BadStepError: it was not, and training is to stop.
        """
        if math.isfinite(grad_norm):
            self._in_a_row = 0
            self._remember(judged)
            return True
        culprits = [text for part in judged for text in self._culprits(part)]
        [known] = distributed.all_sum([float(len(culprits))])
        self.skipped, self._in_a_row = self.skipped + 1, self._in_a_row + 1
        message = self._message(step, culprits, known > 0, judged)
        if self._config.bad == "stop" or self._in_a_row >= self._config.patience:
            often = f" ({self._in_a_row} steps in a row)" if self._config.bad == "skip" else ""
            raise BadStepError(message + often)
        if culprits or not known:
            self._record(step, message)
        return False

    def _message(
        self, step: int, culprits: list[str], known: bool, judged: Sequence[MicroBatchLosses]
    ) -> str:
        if culprits:
            return f"the loss at step {step} is not finite or a spike: {'; '.join(culprits)}"
        if known:
            return f"the loss at step {step} is not finite or a spike: the message of another process names the sample"
        samples = "; ".join(self._located(part, row) for part in judged for row in range(len(part.index)))
        return f"the gradient at step {step} is not finite, though every loss is; its samples: {samples}"

    def _culprits(self, judged: MicroBatchLosses) -> list[str]:
        """The samples whose loss is not finite or above the limit, with their losses."""
        values = judged.losses.tolist()
        limit = self.limit(judged.dataset, judged.steps)
        rows = [row for row, value in enumerate(values) if not math.isfinite(value)]
        if not rows and sum(values) / len(values) > limit:
            rows = [row for row, value in enumerate(values) if value > limit]
        return [f"{self._located(judged, row)} (loss {values[row]:.4g})" for row in rows]

    def _located(self, judged: MicroBatchLosses, row: int) -> str:
        return self._datasets[judged.dataset].describe_frames(*judged.index[row].tolist())

    def _record(self, step: int, message: str) -> None:
        print(f"WARNING: skipped: {message}", file=sys.stderr, flush=True)
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, "reason": message}) + "\n")

    def _remember(self, judged: Sequence[MicroBatchLosses]) -> None:
        """Include the step's losses in the moving averages."""
        # Without a limit nobody needs them, and reading losses would wait for the device.
        if not self._config.spike:
            return
        names = list(self._datasets)
        sums = torch.zeros(3, len(names), dtype=torch.float64)
        for part in judged:
            number = len(part.index)
            found = (float(part.losses.sum()), number, number * part.steps)
            sums[:, names.index(part.dataset)] += torch.tensor(found, dtype=torch.float64)
        totals = distributed.all_sum(sums.flatten().tolist())
        losses, counts, steps = (totals[k * len(names) : (k + 1) * len(names)] for k in range(3))
        for name, loss, count, many in zip(names, losses, counts, steps, strict=True):
            if count:
                # All samples of a dataset are equally long in a step, so this division has no remainder.
                self._means[name].take(loss / count, round(many / count))
