"""Guard: what becomes of a step whose loss is no number or far above what it was, and which sample did it."""

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from pelagos.pipeline import distributed
from pelagos.preprocessing.config import Config
from pelagos.preprocessing.dataset import Dataset
from pelagos.preprocessing.errors import DataError

MEMORY = 0.98
"""Decay of the running means of losses, a step."""


class GuardConfig(Config):
    """When a step is bad, and what follows.

    Attributes:
        bad: whether training stops at a bad step or skips it: neither weights nor moments then change.
        spike: a micro-batch's loss is bad above this many times the running mean of its dataset; 0 for only
            those that are no numbers.
        warmup: steps before spikes are looked for.
        patience: training stops after so many bad steps in a row.
    """

    bad: Literal["stop", "skip"] = "stop"
    spike: float = Field(default=0.0, ge=0)
    warmup: int = Field(default=100, ge=0)
    patience: int = Field(default=10, gt=0)


@dataclass(frozen=True, eq=False)
class Judged:
    """A micro-batch that was trained on.

    Attributes:
        dataset: its identifier.
        index: (B, 3) trajectory, initial and last valid frame of its samples.
        losses: (B,) theirs.
    """

    dataset: str
    index: Tensor
    losses: Tensor


class Guard:
    """Watches over the losses of a run; the same on all processes.

    Attributes:
        skipped: steps that were not taken.
    """

    def __init__(self, config: GuardConfig, datasets: Sequence[Dataset], file: Path) -> None:
        self._config, self._file = config, file
        self._datasets = {dataset.layout.dataset: dataset for dataset in datasets}
        self._means = dict.fromkeys(self._datasets, 0.0)
        self._weights = dict.fromkeys(self._datasets, 0.0)
        self.skipped, self._in_a_row = 0, 0

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps, in JSON's types."""
        return {
            "means": self._means,
            "weights": self._weights,
            "skipped": self.skipped,
            "in_a_row": self._in_a_row,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Continue from a state."""
        self._means, self._weights = dict(state["means"]), dict(state["weights"])
        self.skipped, self._in_a_row = state["skipped"], state["in_a_row"]

    def limit(self, dataset: str, step: int) -> float:
        """The largest loss of a micro-batch that is not bad, at a step."""
        weight = self._weights[dataset]
        if not self._config.spike or step <= self._config.warmup or not weight:
            return math.inf
        return self._config.spike * self._means[dataset] / weight

    def screened(self, loss: Tensor, dataset: str, step: int) -> Tensor:
        """The loss, NaN where it is a spike.

        So its gradient and the norm over all processes are no numbers, and no process takes the step:
        they agree without a message of their own, and the device is not waited for.
        """
        limit = self.limit(dataset, step)
        return loss if limit == math.inf else torch.where(loss.detach() > limit, loss * math.nan, loss)

    def judge(self, step: int, grad_norm: float, judged: Sequence[Judged]) -> bool:
        """Whether the step was taken; if not, says which samples kept it from being so.

        Raises:
            DataError: it was not, and training is to stop.
        """
        if math.isfinite(grad_norm):
            self._in_a_row = 0
            self._remember(judged)
            return True
        culprits = [text for part in judged for text in self._culprits(part, step)]
        [known] = distributed.all_sum([float(len(culprits))])
        self.skipped, self._in_a_row = self.skipped + 1, self._in_a_row + 1
        message = self._message(step, culprits, known > 0, judged)
        if self._config.bad == "stop" or self._in_a_row >= self._config.patience:
            often = f" ({self._in_a_row} steps in a row)" if self._config.bad == "skip" else ""
            raise DataError(message + often)
        if culprits or not known:
            self._record(step, message)
        return False

    def _message(self, step: int, culprits: list[str], known: bool, judged: Sequence[Judged]) -> str:
        if culprits:
            return f"the loss at step {step} is not finite or a spike: {'; '.join(culprits)}"
        if known:
            return f"the loss at step {step} is not finite or a spike: another process says of which sample"
        samples = "; ".join(self._located(part, row) for part in judged for row in range(len(part.index)))
        return f"the gradient at step {step} is not finite, though every loss is; its samples: {samples}"

    def _culprits(self, judged: Judged, step: int) -> list[str]:
        """The samples that are no numbers, or above the limit, with their losses."""
        values = judged.losses.tolist()
        limit = self.limit(judged.dataset, step)
        rows = [row for row, value in enumerate(values) if not math.isfinite(value)]
        if not rows and sum(values) / len(values) > limit:
            rows = [row for row, value in enumerate(values) if value > limit]
        return [f"{self._located(judged, row)} (loss {values[row]:.4g})" for row in rows]

    def _located(self, judged: Judged, row: int) -> str:
        return self._datasets[judged.dataset].locate(*judged.index[row].tolist())

    def _record(self, step: int, message: str) -> None:
        print(f"WARNING: skipped: {message}", file=sys.stderr, flush=True)
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, "reason": message}) + "\n")

    def _remember(self, judged: Sequence[Judged]) -> None:
        """Take the step's losses into the running means; without a limit nobody asks for them."""
        if not self._config.spike:
            return
        names = list(self._datasets)
        sums = [0.0] * (2 * len(names))
        for part in judged:
            place = names.index(part.dataset)
            sums[place] += float(part.losses.sum())
            sums[len(names) + place] += len(part.index)
        totals = distributed.all_sum(sums)
        for name, total, count in zip(names, totals[: len(names)], totals[len(names) :], strict=True):
            if count:
                self._means[name] = MEMORY * self._means[name] + (1 - MEMORY) * total / count
                self._weights[name] = MEMORY * self._weights[name] + (1 - MEMORY)
