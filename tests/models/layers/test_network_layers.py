"""Layers of a network: the blocks that it repeats."""

from torch import nn

from pelagos.models.layers.network_layers import repeated_blocks


def test_blocks_are_the_innermost_members_of_lists() -> None:
    block = nn.ModuleList([nn.Linear(1, 1), nn.Linear(1, 1)])
    stage = nn.Sequential(nn.Conv2d(1, 1, 1))
    network = nn.ModuleDict(
        {"stages": nn.ModuleList([nn.ModuleDict({"blocks": block}), stage]), "head": nn.Linear(1, 1)}
    )
    assert list(map(id, repeated_blocks(network))) == [id(stage), id(block[0]), id(block[1])]
