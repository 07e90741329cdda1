"""Shards: tensors kept in flat pieces, whole or split over processes, and the way to named tensors and back.

Weights, moments and running means of a network have the same pieces, so one description serves all.
It is known to every process for every process, so that a state written by one layout is read by another.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pelagos.pipeline.engine import distributed

Pieces = Sequence[Tensor]


@dataclass(frozen=True)
class Fragment:
    """Elements of a named tensor, seen as flat, that lie in a piece of one process.

    Attributes:
        name: of the tensor.
        piece: which of the process's pieces.
        start: of the elements in the piece.
        origin: of the elements in the tensor.
        size: their number.
    """

    name: str
    piece: int
    start: int
    origin: int
    size: int


@dataclass(frozen=True)
class Member:
    """A tensor in a flat vector: its name, the number of its first element, how many it has."""

    name: str
    offset: int
    size: int


def consecutive(vectors: Sequence[Sequence[Member]], sizes: Sequence[int], rank: int) -> Iterator[Fragment]:
    """Fragments where each process has the same share of each vector, one after the other (ZeRO 1 and 2).

    Args:
        vectors: the members of each.
        sizes: of one process's piece of each.
        rank: of the process.
    """
    for piece, (members, size) in enumerate(zip(vectors, sizes, strict=True)):
        for member in members:
            first = max(member.offset, rank * size)
            last = min(member.offset + member.size, (rank + 1) * size)
            if first < last:
                yield Fragment(member.name, piece, first - rank * size, first - member.offset, last - first)


def interleaved(vectors: Sequence[Sequence[Member]], world: int, rank: int) -> Iterator[Fragment]:
    """Fragments where each process has the same share of each tensor, padded at the end (ZeRO 3)."""
    for piece, members in enumerate(vectors):
        start = 0
        for member in members:
            share = -(-member.size // world)
            size = min(share, member.size - rank * share)
            if size > 0:
                yield Fragment(member.name, piece, start, rank * share, size)
            start += share


class Shards:
    """Where the elements of named tensors lie in the pieces of all processes."""

    def __init__(
        self,
        shapes: Mapping[str, torch.Size],
        fragments: Callable[[int], Iterator[Fragment]],
        *,
        split: bool,
    ) -> None:
        """Describe a layout.

        Args:
            shapes: of the tensors by name.
            fragments: what each process holds.
            split: whether processes hold different parts; else each holds everything.
        """
        self._shapes, self._fragments, self.split = dict(shapes), fragments, split

    def collect(self, pieces: Pieces) -> dict[str, Tensor]:
        """All tensors by name in the host memory of rank 0, new; none elsewhere. Called by all processes.

        Beside the result no process holds more than one piece of another one.
        """
        whole = self._empty(torch.device("cpu"), pieces) if distributed.rank() == 0 else {}
        for number, piece in enumerate(pieces):
            for rank, part in distributed.on_root(piece.detach(), split=self.split):
                self._copy(whole, rank, number, part.cpu())
        return whole

    def everywhere(self, pieces: Pieces) -> dict[str, Tensor]:
        """All tensors by name on every process's device; where nothing is split, views of the pieces."""
        if not self.split:
            return {
                f.name: pieces[f.piece].detach()[f.start : f.start + f.size].view(self._shapes[f.name])
                for f in self._fragments(0)
            }
        whole = self._empty(pieces[0].device, pieces)
        for number, piece in enumerate(pieces):
            for rank, part in enumerate(distributed.all_gather(piece.detach())):
                self._copy(whole, rank, number, part)
        return whole

    @torch.no_grad()
    def scatter(self, whole: Mapping[str, Tensor], pieces: Pieces) -> None:
        """Fill this process's pieces from tensors by name."""
        for f in self._fragments(distributed.rank()):
            source = whole[f.name].reshape(-1)[f.origin : f.origin + f.size]
            pieces[f.piece][f.start : f.start + f.size].copy_(source)

    def _empty(self, device: torch.device, pieces: Pieces) -> dict[str, Tensor]:
        return {
            name: torch.empty(shape, dtype=pieces[0].dtype, device=device)
            for name, shape in self._shapes.items()
        }

    def _copy(self, whole: Mapping[str, Tensor], rank: int, number: int, piece: Tensor) -> None:
        for f in self._fragments(rank):
            if f.piece == number:
                target = whole[f.name].view(-1)[f.origin : f.origin + f.size]
                target.copy_(piece[f.start : f.start + f.size])
