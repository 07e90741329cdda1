"""Evaluator: the loop over start batches and lead times in which every frame is scored and dropped."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pelagos.evaluation.forecast_plan import StartBatch
from pelagos.evaluation.streaming.frame_scores import BatchScores
from pelagos.evaluation.streaming.frame_sources import FrameSource, StoredFrames
from pelagos.evaluation.streaming.score_plan import ScorePlan
from pelagos.evaluation.streaming.score_state import ScoreState

Fields = NDArray[Any]
WINDOW = 64
"""Lead times whose states are in memory at a time."""


class FrameSink(Protocol):
    """Takes the frames of a method's forecasts, batch by batch."""

    def block(self, batch: StartBatch) -> AbstractContextManager[Callable[[Fields], None]]:
        """Give a function that takes (B, V, H, W) frames in the order of their lead times, and keeps none."""
        ...


@dataclass(frozen=True, eq=False)
class Evaluator:
    """What is scored against what.

    Attributes:
        plan: what is kept of it.
        truth: what forecasts should have been.
        sources: of the frames of each method, in the order of the plan.
        sinks: method -> what takes its frames besides the scores.
        climatology: what anomalies are from, where a score has any.
    """

    plan: ScorePlan
    truth: StoredFrames
    sources: Mapping[str, FrameSource]
    sinks: Mapping[str, FrameSink] = field(default_factory=dict)
    climatology: FrameSource | None = None

    def score(self, batch: StartBatch) -> Iterator[dict[str, ScoreState]]:
        """The states of the truth and of all methods, of a batch and of one window of lead times after the other."""
        scores = BatchScores(self.plan, self.plan.samples_of(batch), self.truth.at(batch, 0))
        streams = [self.truth.frames(batch), *(source.frames(batch) for source in self.sources.values())]
        normal = repeat(None) if self.climatology is None else self.climatology.frames(batch)
        last = len(self.plan.lead_times)
        with ExitStack() as blocks:
            takers = {method: blocks.enter_context(sink.block(batch)) for method, sink in self.sinks.items()}
            # Compiled sums and hashes run without Python's lock: with a core to spare they cost the network no time.
            # One frame is scored and written while the networks make the next one; in order, by a single thread.
            beside = blocks.enter_context(ThreadPoolExecutor(1, "scoring"))
            taken: Future[None] | None = None
            for lead, (truth_BVHW, *frames) in enumerate(zip(*streams, strict=True)):
                if taken is not None:
                    taken.result()
                if lead % WINDOW == 0:
                    scores.begin(slice(lead, min(lead + WINDOW, last)))
                forecasts = dict(zip(self.sources, frames, strict=True))
                taken = beside.submit(_take, scores, takers, lead, truth_BVHW, forecasts, next(normal))
                if (lead + 1) % WINDOW == 0 or lead + 1 == last:
                    taken.result()
                    yield scores.states

    def score_all(self, size: int) -> dict[str, ScoreState]:
        """The states of all forecasts, in batches of so many, in memory."""
        whole = {name: ScoreState.empty(self.plan, name, self.plan.whole) for name in self.plan.everything}
        for batch in self.plan.forecasts.batches(size):
            for states in self.score(batch):
                for name, state in states.items():
                    whole[name].merge(state)
        return whole


def _take(
    scores: BatchScores,
    takers: Mapping[str, Callable[[Fields], None]],
    lead: int,
    truth_BVHW: Fields,
    forecasts: Mapping[str, Fields],
    climatology_BVHW: Fields | None,
) -> None:
    scores.add(lead, truth_BVHW, forecasts, climatology_BVHW)
    for method, take in takers.items():
        take(forecasts[method])


def moments_of(truth: StoredFrames, size: int) -> NDArray[np.float64]:
    """(V, 2) mean and deviation of the truth of all forecasts, read frame by frame in batches of so many."""
    count, mean, squares = (np.zeros(len(truth.channels)) for _ in range(3))
    for batch in truth.plan.batches(size):
        for fields_BVHW in truth.frames(batch):
            values = np.moveaxis(fields_BVHW, 1, 0).reshape(len(mean), -1).astype(np.float64)
            valid = ~np.isnan(values)
            number = valid.sum(axis=1)
            own = np.where(valid, values, 0.0).sum(axis=1) / np.maximum(number, 1)
            # Chan's rule: a frame's moments about its own mean, moved to the mean of all.
            share, apart = number / np.maximum(count + number, 1), own - mean
            squares += (np.where(valid, values - own[:, None], 0.0) ** 2).sum(
                axis=1
            ) + apart**2 * count * share
            mean, count = mean + apart * share, count + number
    return np.stack([mean, np.sqrt(squares / np.maximum(count, 1))], axis=1)
