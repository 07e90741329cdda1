"""Layouts of tensors over processes: nothing is lost, and nothing is held twice."""

from collections.abc import Iterator

import pytest
import torch

from pelagos.pipeline.engine.tensor_shards import Fragment, PackedTensor, consecutive, interleaved

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
