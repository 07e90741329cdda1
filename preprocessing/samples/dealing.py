"""Dealing: which rank takes which blocks of a step, so that none waits long for another."""

from collections.abc import Sequence
from heapq import heapify, heappop, heappush


def dealt_by_cost(costs: Sequence[float], ranks: int) -> list[list[int]]:
    """Positions of the blocks of each rank: as many for each, of sums of costs that are about the same.

    The dearest block that is left goes to the rank that has least to do (Graham 1969), of those that have room. Each
    rank begins with its dearest, so that ranks which wait for each other after every block wait little.

    >>> dealt_by_cost([4, 1, 1, 4, 1, 4, 4, 1], 2)
    [[0, 5, 1, 4], [3, 6, 2, 7]]
    """
    room = len(costs) // ranks
    assert room * ranks == len(costs)
    dealt: list[list[int]] = [[] for _ in range(ranks)]
    loads = [(0.0, rank) for rank in range(ranks)]
    heapify(loads)
    for position in sorted(range(len(costs)), key=lambda position: -costs[position]):
        load, rank = heappop(loads)
        dealt[rank].append(position)
        if len(dealt[rank]) < room:
            heappush(loads, (load + costs[position], rank))
    return dealt
