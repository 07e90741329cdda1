"""EMA: the exponential moving average of a network's weights, sharded over processes as the weights are."""

from contextlib import AbstractContextManager
from functools import partial

import torch
from torch import Tensor, nn

from pelagos.pipeline.engine.engine import Engine
from pelagos.pipeline.engine.saved_tensors import SavedTensors


class WeightAverage:
    """The exponential moving average of the weights that an engine trains.

    It costs a process 4 bytes per weight divided by the number of processes. With decay 0 it is the weights themselves,
    and costs nothing.
    """

    def __init__(self, engine: Engine, decay: float) -> None:
        self._engine, self._decay = engine, decay
        self._pieces = (
            [partition.detach().clone() for partition in engine.partitions] if decay else engine.partitions
        )

    def update(self, step: int) -> None:
        """Include the weights as they are after this many steps."""
        if self._decay:
            # A short memory at first, or the average would long be dominated by the initial weights.
            decay = min(self._decay, (1 + step) / (10 + step))
            weights = [partition.detach() for partition in self._engine.partitions]
            torch._foreach_lerp_(self._pieces, weights, 1 - decay)

    def share(self) -> list[Tensor]:
        """What this process saves of it, as views."""
        return self._engine.shards.share(self._pieces)

    def load(self, saved: SavedTensors) -> None:
        """Continue from a checkpoint; each process reads its part alone."""
        if self._decay:
            self._engine.shards.fill(self._pieces, partial(saved.read, "average"))

    def network(self) -> AbstractContextManager[nn.Module]:
        """The context of the network in eval mode with averaged weights; see `Engine.lent`. All processes call it.

        At ZeRO 1 and 2 this takes 4 bytes per weight for as long as the context lasts.
        """
        return self._engine.lent(self._pieces)
