"""Layouts of tensors over processes: nothing is lost, and nothing is held twice."""

from collections.abc import Iterator
from functools import partial
from math import prod

import pytest
import torch

from pelagos.pipeline.engine import distributed
from pelagos.pipeline.engine.saved_tensors import Cut
from pelagos.pipeline.engine.tensor_shards import (
    Fragment,
    PackedTensor,
    TensorShards,
    consecutive,
    interleaved,
)

SIZES = ((7, 1, 12), (5,), (3, 30))


def vectors(gap: int) -> list[list[PackedTensor]]:
    """Tensors a, b, ... one after the other, each followed by a gap."""
    names = iter("abcdefgh")
    found = []
    for sizes in SIZES:
        offset, members = 0, []
        for size in sizes:
            members.append(PackedTensor(next(names), offset, size))
            offset += size + gap
        found.append(members)
    return found


def layout(kind: str, world: int, rank: int) -> Iterator[Fragment]:
    members = vectors(gap=3 if kind == "consecutive" else 0)
    if kind == "interleaved":
        return interleaved(members, world, rank)
    lengths = [group[-1].offset + group[-1].size for group in members]
    return consecutive(members, [-(-length // world) for length in lengths], rank)


@pytest.mark.parametrize("kind", ["consecutive", "interleaved"])
@pytest.mark.parametrize("world", [1, 2, 3, 4, 50])
def test_each_number_lies_in_one_place_of_one_process(kind: str, world: int) -> None:
    held = {member.name: torch.zeros(member.size) for group in vectors(0) for member in group}
    places: set[tuple[object, ...]] = set()
    for rank in range(world):
        for fragment in layout(kind, world, rank):
            held[fragment.name][fragment.origin : fragment.origin + fragment.size] += 1
            taken = {(rank, fragment.partition, fragment.start + i) for i in range(fragment.size)}
            assert len(taken) == fragment.size
            assert not taken & places
            places |= taken
    assert all((count == 1).all() for count in held.values())


@pytest.mark.parametrize("kind", ["consecutive", "interleaved"])
def test_no_process_holds_more_than_its_share(kind: str) -> None:
    total = sum(map(sum, SIZES))
    for rank in range(4):
        mine = sum(fragment.size for fragment in layout(kind, 4, rank))
        # Each tensor (interleaved) or vector may round its share up, and gaps belong to somebody.
        assert mine <= total / 4 + 6 + 3


@pytest.mark.parametrize("split", [True, False])
@pytest.mark.parametrize("world", [1, 3, 4, 50])
def test_the_shares_of_all_processes_are_the_tensors_once_in_the_order_of_ranks(
    monkeypatch: pytest.MonkeyPatch, world: int, split: bool
) -> None:
    members = vectors(gap=3)
    sizes = [group[-1].offset + group[-1].size for group in members]
    shapes = {member.name: torch.Size([member.size]) for group in members for member in group}
    held = [-(-size // world) for size in sizes] if split else sizes
    whole = [torch.arange(float(size)) for size in sizes]
    monkeypatch.setattr(distributed, "world", lambda: world)
    found: dict[str, list[torch.Tensor]] = {name: [] for name in shapes}
    for rank in range(world):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        fragments = partial(consecutive, members, held) if split else lambda _: consecutive(members, sizes, 0)
        shards = TensorShards(shapes, fragments, held, split=split)
        mine = [v[rank * h : (rank + 1) * h] for v, h in zip(whole, held, strict=True)] if split else whole
        share = shards.share(mine)
        assert sum(map(len, share)) <= sum(-(-size // world) for size in sizes)
        for name, piece in shards.pieces(share).items():
            found[name].append(piece)
        again = [torch.zeros_like(part) for part in share]
        shards.fill_share(again, lambda name, first, size: wanted(whole, name)[first : first + size])
        assert all(torch.equal(p, shards.pieces(share)[n]) for n, p in shards.pieces(again).items())
    for name, pieces in found.items():
        assert torch.equal(torch.cat(pieces), wanted(whole, name))
        assert [len(piece) for piece in pieces] == lengths(shards.cuts[name])


def wanted(whole: list[torch.Tensor], name: str) -> torch.Tensor:
    """The elements of a tensor in the vectors."""
    [(vector, member)] = [
        (v, m) for v, group in zip(whole, vectors(gap=3), strict=True) for m in group if m.name == name
    ]
    return vector[member.offset : member.offset + member.size]


def lengths(cut: Cut) -> list[int]:
    """Of the pieces that a cut describes."""
    found = [size for _, count, size in cut.runs for _ in range(count)]
    assert sum(found) == prod(cut.shape)
    return found
