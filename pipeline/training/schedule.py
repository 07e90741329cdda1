"""Schedule: the learning rate as a pure function of the step, so that checkpoints hold no scheduler."""

import math
from typing import Literal, Self

from pydantic import Field, model_validator

from pelagos.preprocessing.config import Config


class ScheduleConfig(Config):
    """Linear warm-up, then cosine, linear or no decay, or cosines with warm restarts.

    Attributes:
        kind: the decay after the warm-up; `restarts` are cosines that start again at the highest learning rate
            (Loshchilov & Hutter 2017, arXiv 1608.03983).
        warmup: the number of steps of the linear rise from zero.
        final: the last learning rate as a fraction of the highest.
        period: the number of steps of the first cosine of `restarts`.
        growth: the factor by which each cosine is longer than the one before.
    """

    kind: Literal["cosine", "linear", "constant", "restarts"] = "cosine"
    warmup: int = Field(default=0, ge=0)
    final: float = Field(default=0.0, ge=0, le=1)
    period: int = Field(default=0, ge=0)
    growth: float = Field(default=1.0, ge=1)

    @model_validator(mode="after")
    def _restarts_have_a_period(self) -> Self:
        if (self.kind == "restarts") != (self.period > 0):
            raise ValueError(
                f"kind {self.kind} with period {self.period}: restarts need a period, others have none"
            )
        return self

    def factor(self, step: int, steps: int) -> float:
        """The fraction of the highest learning rate at a step (from 0) of a run of `steps`.

        >>> schedule = ScheduleConfig(warmup=2)
        >>> [round(schedule.factor(step, 4), 2) for step in range(4)]
        [0.5, 1.0, 1.0, 0.5]
        """
        if step < self.warmup:
            # Not step / warmup: a rate of zero would waste the first step.
            return (step + 1) / self.warmup
        progress = self._progress(step - self.warmup, steps - self.warmup)
        cosine = (1 + math.cos(math.pi * progress)) / 2
        decay = {"cosine": cosine, "restarts": cosine, "linear": 1 - progress, "constant": 1.0}
        return self.final + (1 - self.final) * decay[self.kind]

    def _progress(self, step: int, steps: int) -> float:
        """How far the decay has come, from 0 to 1."""
        if self.kind != "restarts":
            return step / max(1, steps)
        length = float(self.period)
        start = 0.0
        while step >= start + length:
            start, length = start + length, length * self.growth
        return (step - start) / length
