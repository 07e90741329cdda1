"""Tensor shards: how named tensors map to the flat partitions of each process, and back.

A network's weights, moments and moving averages share one layout, so a single description serves all. Every process
knows it for every process, so a state saved with one number of processes or ZeRO stage loads with another.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pelagos.pipeline.engine import distributed

Partitions = Sequence[Tensor]


@dataclass(frozen=True)
class Fragment:
    """A run of elements that a partition of one process holds of a named, flattened tensor.

    Attributes:
        name: the tensor's.
        partition: index of the process's partition.
        start: the first element's position in the partition.
        origin: the first element's position in the tensor.
        size: the number of elements.
    """

    name: str
    partition: int
    start: int
    origin: int
    size: int


@dataclass(frozen=True)
class PackedTensor:
    """A named tensor in a flat vector: the position of its first element, and how many it has."""

    name: str
    offset: int
    size: int


def consecutive(
    vectors: Sequence[Sequence[PackedTensor]], sizes: Sequence[int], rank: int
) -> Iterator[Fragment]:
    """Fragments where vectors are cut into one equal share per process, in rank order (ZeRO 1 and 2).

    Args:
        vectors: the tensors in each vector.
        sizes: the number of elements of each vector that a process holds.
        rank: the process's.
    """
    for partition, (members, size) in enumerate(zip(vectors, sizes, strict=True)):
        for member in members:
            # The overlap of the tensor and this process's share, both in the vector's own positions.
            first = max(member.offset, rank * size)
            last = min(member.offset + member.size, (rank + 1) * size)
            if first < last:
                yield Fragment(
                    member.name, partition, first - rank * size, first - member.offset, last - first
                )


def interleaved(vectors: Sequence[Sequence[PackedTensor]], world: int, rank: int) -> Iterator[Fragment]:
    """Fragments where every tensor is cut into one equal share per process, the last one padded (ZeRO 3)."""
    for partition, members in enumerate(vectors):
        start = 0
        for member in members:
            share = -(-member.size // world)  # DeepSpeed rounds up and pads
            size = min(share, member.size - rank * share)
            if size > 0:
                yield Fragment(member.name, partition, start, rank * share, size)
            start += share


class TensorShards:
    """The layout of named tensors in the partitions of all processes."""

    def __init__(
        self,
        shapes: Mapping[str, torch.Size],
        fragments: Callable[[int], Iterator[Fragment]],
        *,
        split: bool,
    ) -> None:
        """Describe a layout.

        Args:
            shapes: the tensors' shapes by name.
            fragments: gives what the process of a rank holds.
            split: whether processes hold different parts; otherwise each holds everything.
        """
        self._shapes, self._fragments, self.split = dict(shapes), fragments, split

    def collect(self, partitions: Partitions) -> dict[str, Tensor]:
        """Copies of all tensors by name in the host memory of rank 0; none elsewhere. All processes call it.

        Beside the result, rank 0 holds no more than one partition of another process at a time.
        """
        whole = self._empty(torch.device("cpu"), partitions) if distributed.rank() == 0 else {}
        for number, partition in enumerate(partitions):
            for rank, part in distributed.parts_on_root(partition.detach(), split=self.split):
                self._copy(whole, rank, number, part.cpu())
        return whole

    def everywhere(self, partitions: Partitions) -> dict[str, Tensor]:
        """All tensors by name on every process's device; views of the partitions where nothing is split."""
        if not self.split:
            # No copy: rank 0's fragments describe every process.
            return {
                f.name: partitions[f.partition]
                .detach()[f.start : f.start + f.size]
                .view(self._shapes[f.name])
                for f in self._fragments(0)
            }
        # On the device: this serves validation with averaged weights, which runs there.
        whole = self._empty(partitions[0].device, partitions)
        for number, partition in enumerate(partitions):
            for rank, part in enumerate(distributed.all_gather(partition.detach())):
                self._copy(whole, rank, number, part)
        return whole

    @torch.no_grad()
    def scatter(self, whole: Mapping[str, Tensor], partitions: Partitions) -> None:
        """Fill this process's partitions from tensors by name."""
        for f in self._fragments(distributed.rank()):
            source = whole[f.name].reshape(-1)[f.origin : f.origin + f.size]
            partitions[f.partition][f.start : f.start + f.size].copy_(source)

    def _empty(self, device: torch.device, partitions: Partitions) -> dict[str, Tensor]:
        return {
            name: torch.empty(shape, dtype=partitions[0].dtype, device=device)
            for name, shape in self._shapes.items()
        }

    def _copy(self, whole: Mapping[str, Tensor], rank: int, number: int, partition: Tensor) -> None:
        for f in self._fragments(rank):
            if f.partition == number:
                target = whole[f.name].view(-1)[f.origin : f.origin + f.size]
                target.copy_(partition[f.start : f.start + f.size])
