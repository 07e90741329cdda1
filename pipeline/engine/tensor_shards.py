"""Tensor shards: how named tensors map to the flat partitions of each process, and back.

A network's weights, moments and moving averages share one layout, so a single description serves all. Every process
knows it for every process, so a state saved with one number of processes or ZeRO stage loads with another.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from pelagos.pipeline.engine import distributed
from pelagos.pipeline.engine.saved_tensors import Cut

Partitions = Sequence[Tensor]
Read = Callable[[str, int, int], Tensor]
"""Gives so many elements of a named, flattened tensor from a position on."""


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
    """The layout of named tensors in the partitions of all processes.

    Attributes:
        names: of the tensors.
        split: whether processes hold different parts.
    """

    def __init__(
        self,
        shapes: Mapping[str, torch.Size],
        fragments: Callable[[int], Iterator[Fragment]],
        sizes: Sequence[int],
        *,
        split: bool,
    ) -> None:
        """Describe a layout.

        Args:
            shapes: the tensors' shapes by name.
            fragments: gives what the process of a rank holds.
            sizes: the number of elements of each partition.
            split: whether processes hold different parts; otherwise each holds everything.
        """
        self._shapes, self._fragments, self.split = dict(shapes), fragments, split
        self.names = frozenset(shapes)
        # Where all hold everything, each saves one equal part.
        self._saved_sizes = [size if split else -(-size // distributed.world()) for size in sizes]

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
        whole = {
            name: torch.empty(shape, dtype=partitions[0].dtype, device=partitions[0].device)
            for name, shape in self._shapes.items()
        }
        for number, partition in enumerate(partitions):
            for rank, part in enumerate(distributed.all_gather(partition.detach())):
                _copy(whole, self._fragments(rank), number, part)
        return whole

    @torch.no_grad()
    def fill(self, partitions: Partitions, read: Read) -> None:
        """Fill this process's partitions."""
        _fill(partitions, self._fragments(distributed.rank()), read)

    def share(self, partitions: Partitions) -> list[Tensor]:
        """What of its partitions this process saves: views of all it holds, or of one part where all hold the same."""
        if self.split:
            return [partition.detach() for partition in partitions]
        rank = distributed.rank()
        return [
            partition.detach()[rank * size : (rank + 1) * size]
            for partition, size in zip(partitions, self._saved_sizes, strict=True)
        ]

    def pieces(self, share: Sequence[Tensor]) -> dict[str, Tensor]:
        """The pieces of tensors in this process's share, flat, by name."""
        return {
            f.name: share[f.partition][f.start : f.start + f.size] for f in self._saved(distributed.rank())
        }

    @torch.no_grad()
    def fill_share(self, share: Sequence[Tensor], read: Read) -> None:
        """Fill tensors like this process's share."""
        _fill(share, self._saved(distributed.rank()), read)

    @cached_property
    def cuts(self) -> dict[str, Cut]:
        """How the tensors are cut over the shares of all processes."""
        runs: dict[str, list[list[int]]] = {name: [] for name in self._shapes}
        # In the order of ranks the pieces of each tensor follow each other.
        for rank in range(distributed.world()):
            for f in self._saved(rank):
                found = runs[f.name]
                if found and (sum(found[-1][:2]), found[-1][2]) == (rank, f.size):
                    found[-1][1] += 1
                else:
                    found.append([rank, 1, f.size])
        return {
            name: Cut.model_validate({"shape": tuple(shape), "runs": runs[name]})
            for name, shape in self._shapes.items()
        }

    def _saved(self, rank: int) -> Iterator[Fragment]:
        """The fragments of a process's share."""
        if self.split:
            return self._fragments(rank)
        vectors: dict[int, list[PackedTensor]] = {}
        for f in self._fragments(0):
            vectors.setdefault(f.partition, []).append(PackedTensor(f.name, f.start, f.size))
        return consecutive(list(vectors.values()), self._saved_sizes, rank)


def _copy(whole: Mapping[str, Tensor], fragments: Iterator[Fragment], number: int, partition: Tensor) -> None:
    for f in fragments:
        if f.partition == number:
            target = whole[f.name].view(-1)[f.origin : f.origin + f.size]
            target.copy_(partition[f.start : f.start + f.size])


def _fill(partitions: Partitions, fragments: Iterator[Fragment], read: Read) -> None:
    for f in fragments:
        partitions[f.partition][f.start : f.start + f.size].copy_(read(f.name, f.origin, f.size))
