"""Gradient reduction: gradients are averaged over processes in buckets, while the backward pass goes on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from pelagos.pipeline.engine import distributed
from pelagos.pipeline.engine.parameter_packing import ParameterPacking
from pelagos.preprocessing.errors import PelagosError

BUCKET = 6_500_000
"""Elements of a bucket: 26 MB, enough to fill an interconnect, and a fraction of a network (as in PyTorch's DDP)."""


class ReductionError(PelagosError, RuntimeError):
    """A gradient came after its bucket was averaged."""


@dataclass(frozen=True)
class Bucket:
    """A run of elements of a vector of gradients.

    Attributes:
        vector: number of the vector.
        start: the first element.
        stop: behind the last element.
        parameters: those whose gradients it holds.
    """

    vector: int
    start: int
    stop: int
    parameters: tuple[nn.Parameter, ...]


class GradientReduction:
    """Averages the gradients of packed parameters over processes, each bucket as soon as its last gradient is there.

    Buckets follow each other in one order on all processes, that of backward passes. Each sum has the same terms as
    without buckets; with more than two processes, a library may add them in another order.
    """

    def __init__(
        self,
        packing: ParameterPacking,
        shares: Sequence[int] | None,
        dtype: torch.dtype,
        *,
        largest: int = BUCKET,
    ) -> None:
        """Watch the parameters' gradients.

        Args:
            packing: the parameters, whose gradients are linked.
            shares: elements of each vector that a process owns, in the order of ranks, where each needs the mean of
                these alone; None where all need the whole mean.
            dtype: that gradients are sent and added in.
            largest: elements of a bucket, unless one parameter has more.
        """
        self._vectors, self._shares, self._dtype = packing.gradients, shares, dtype
        self._buckets = _buckets(packing, largest)
        self._armed, self._launched, self._missing = False, 0, list[int]()
        self._finishing: list[Callable[[], None]] = []
        for number, bucket in enumerate(self._buckets):
            for parameter in bucket.parameters:
                parameter.register_post_accumulate_grad_hook(partial(self._arrived, number))

    @property
    def launched(self) -> int:
        """How many buckets are under way."""
        return self._launched

    def arm(self) -> None:
        """Average what the next backward pass, the last of a step, completes."""
        self._armed, self._missing = True, [len(bucket.parameters) for bucket in self._buckets]

    def finish(self) -> None:
        """Average what is left, and wait for all."""
        self._armed = False
        while self._launched < len(self._buckets):
            self._launch()
        for finish in self._finishing:
            finish()
        self._launched, self._finishing = 0, []

    def norm(self) -> Tensor:
        """The norm of the averaged gradients, on the device."""
        if self._shares is None:
            return torch.nn.utils.get_total_norm(self._vectors)
        rank = distributed.rank()
        own = [v[rank * n : (rank + 1) * n] for v, n in zip(self._vectors, self._shares, strict=True)]
        squares = torch.nn.utils.get_total_norm(own).square()
        distributed.reduced(squares)()
        return squares.sqrt()

    def _arrived(self, number: int, _: Tensor) -> None:
        if not self._armed:
            return
        if number < self._launched:
            raise ReductionError(
                "a weight got a gradient twice in one backward pass, the second after it was averaged over processes,"
                " as with reentrant checkpointing; engine.overlap=false averages after the pass"
            )
        self._missing[number] -= 1
        # Never out of order: processes whose passes complete others first would add different buckets.
        while self._launched < len(self._buckets) and self._missing[self._launched] <= 0:
            self._launch()

    @torch.no_grad()
    def _launch(self) -> None:
        bucket = self._buckets[self._launched]
        self._launched += 1
        whole = self._vectors[bucket.vector][bucket.start : bucket.stop].div_(distributed.world())
        if self._shares is None:
            self._finishing.append(self._sent(whole, None))
            return
        size = self._shares[bucket.vector]
        for owner in range(bucket.start // size, -(-bucket.stop // size)):
            first, last = max(bucket.start, owner * size), min(bucket.stop, (owner + 1) * size)
            part = whole[first - bucket.start : last - bucket.start]
            self._finishing.append(self._sent(part, owner))

    def _sent(self, part: Tensor, owner: int | None) -> Callable[[], None]:
        """Begin to add up a part; returns what ends it."""
        if part.dtype == self._dtype:
            return distributed.reduced(part, owner)
        small = part.to(self._dtype)
        wait = distributed.reduced(small, owner)

        def finish() -> None:
            wait()
            part.copy_(small)

        return finish


def _buckets(packing: ParameterPacking, largest: int) -> list[Bucket]:
    """In the order in which a backward pass completes them."""
    found = [
        bucket
        for number in range(len(packing.gradients))
        for bucket in _vector_buckets(packing, number, largest)
    ]
    place = {parameter: number for number, parameter in enumerate(packing.ordered)}
    # A pass comes to the first parameter of the network last.
    return sorted(found, key=lambda bucket: -min(place[parameter] for parameter in bucket.parameters))


def _vector_buckets(packing: ParameterPacking, vector: int, largest: int) -> list[Bucket]:
    buckets, parameters = [], list[nn.Parameter]()
    stop = start = len(packing.gradients[vector])
    pairs = list(zip(packing.vectors[vector], packing.parameters_of[vector], strict=True))
    for member, parameter in reversed(pairs):
        if parameters and stop - member.offset > largest:
            buckets.append(Bucket(vector, start, stop, tuple(parameters)))
            parameters, stop = [], start
        parameters.append(parameter)
        start = member.offset
    return [*buckets, Bucket(vector, start, stop, tuple(parameters))]
