"""Permutations: every item once, differently for every key, and as if by chance."""

from collections import Counter

import numpy as np
import pytest

from pelagos.preprocessing.samples.permutation import GroupedPermutation, Permutation


@pytest.mark.parametrize("num", [1, 2, 3, 7, 64, 65, 1000])
def test_a_permutation_meets_everything_once(num: int) -> None:
    assert sorted(Permutation(num, (1, 2))(np.arange(num)).tolist()) == list(range(num))


def test_permutations_of_different_keys_differ_and_of_one_agree() -> None:
    positions = np.arange(500)
    one, same, other = (Permutation(500, key)(positions) for key in [(1, 0), (1, 0), (1, 1)])
    assert np.array_equal(one, same)
    assert (one == other).sum() < 20


def test_permutations_look_random() -> None:
    num = 1000
    orders = np.stack([Permutation(num, (0, epoch))(np.arange(num)) for epoch in range(200)])
    # Neighbours, first places and positions are not correlated: within 5 standard errors of chance.
    for a, b in [
        (orders[:, :-1], orders[:, 1:]),
        (orders[:-1], orders[1:]),
        (orders, np.tile(np.arange(num), (200, 1))),
    ]:
        correlation = np.corrcoef(a.ravel(), b.ravel())[0, 1]
        assert abs(correlation) < 5 / np.sqrt(a.size)
    halves = Counter((orders[:, 0] < num // 2).tolist())
    assert abs(halves[True] - 100) < 5 * np.sqrt(50)
    bits = (orders[:, :, None] >> np.arange(9) & 1).mean(axis=(0, 1))
    assert bits == pytest.approx(0.5, abs=0.02)


def test_groups_of_runs_are_met_one_after_the_other() -> None:
    ends = np.cumsum([3, 0, 5, 2, 7, 1, 4])
    order = GroupedPermutation(ends, 2, (5,))(np.arange(22))
    assert sorted(order.tolist()) == list(range(22))
    runs = np.searchsorted(ends, order, side="right")
    # A run's members lie within those of one other run at most.
    for run in np.unique(runs):
        first, last = np.flatnonzero(runs == run)[[0, -1]]
        assert len(set(runs[first : last + 1].tolist())) <= 2
    assert order.tolist() != GroupedPermutation(ends, 2, (6,))(np.arange(22)).tolist()
