"""The reservoir: every trajectory is used before it leaves, and all of it follows from the position alone."""

from collections import Counter

import numpy as np
import pytest

from pelagos.preprocessing.samples.lanes import Lane, Lanes

CASES = [(8, 5, 4), (8, 1, 4), (1, 3, 2), (5, 2, 8), (16, 40, 8)]


def drawn(lane: Lane, turns: int) -> list[int]:
    return [int(number) for turn in range(turns) for number in lane.draw(turn)[0]]


@pytest.mark.parametrize(("size", "uses", "draws"), CASES)
def test_what_leaves_was_used_and_what_is_used_was_there(size: int, uses: int, draws: int) -> None:
    lane = Lane(size, uses, draws, (7,))
    held, seen = set(range(size)), set()
    assert set(lane.held(0).tolist()) == held
    for position, trajectory in enumerate(drawn(lane, 6 * size * uses // draws)):
        replaced, within = divmod(position, uses)
        if within == 0 and replaced:
            now = set(lane.held(replaced).tolist())
            [gone], [come] = held - now, now - held
            assert gone in seen
            assert come == size + replaced - 1
            held = now
        assert trajectory in held
        seen.add(trajectory)


@pytest.mark.parametrize(("size", "uses", "draws"), CASES)
def test_a_trajectory_is_used_as_often_as_asked_for_on_average_and_leaves_within_two_rounds(
    size: int, uses: int, draws: int
) -> None:
    lane = Lane(size, uses, draws, (1,))
    replacements = 40 * size
    counts = Counter(drawn(lane, replacements * uses // draws))
    gone = range(2 * size, replacements - 2 * size)
    assert min(counts[number] for number in gone) >= 1
    spread = np.sqrt(uses * len(gone)) / len(gone)
    assert abs(np.mean([counts[number] for number in gone]) - uses) < 4 * spread + 1e-12
    first = {number: replaced for replaced in range(replacements) for number in lane.held(replaced)}
    last_seen = [first[number] - (number - size + 1) for number in gone]
    assert max(last_seen) < 2 * size


def test_draws_are_even_over_trajectories_and_parts() -> None:
    lane = Lane(4, 10**6, 1000, (3,))
    trajectories, choices = (np.concatenate(x) for x in zip(*map(lane.draw, range(40)), strict=True))
    for values, kinds in ((trajectories, 4), (choices % 7, 7)):
        counts = np.bincount(values, minlength=kinds)
        expected = len(values) / kinds
        # 99.99 % of chi-squared with 6 degrees of freedom.
        assert ((counts - expected) ** 2 / expected).sum() < 27.9


def test_turns_may_be_asked_for_in_any_order() -> None:
    one, other = (Lane(8, 5, 4, (2,)) for _ in range(2))
    forth = [one.draw(turn)[0].tolist() for turn in range(50)]
    back = [other.draw(turn)[0].tolist() for turn in reversed(range(50))]
    assert forth == back[::-1]
    assert forth != [Lane(8, 5, 4, (3,)).draw(turn)[0].tolist() for turn in range(50)]


def test_lanes_share_no_trajectory_and_leave_none_out() -> None:
    lanes = Lanes(10, 3, 4, lanes=4, ahead=5, first=100, samples_each=6, key=(0,))
    held = [lanes.wanted(lane, 0, num_lanes=4)[0].tolist() for lane in range(4)]
    assert sorted(map(len, held)) == [2, 2, 3, 3]
    assert len(set.union(*map(set, held))) == 10
    met = [
        {int(sample) // 6 for turn in range(60) for sample in lanes.samples(lane, turn)} for lane in range(4)
    ]
    assert len(set.union(*met)) == sum(map(len, met))
    for lane, numbers in enumerate(met):
        assert {(number - 100) % 4 for number in numbers} == {lane}
        known = sorted((number - 100) // 4 for number in numbers)
        assert known[: -len(held[lane])] == list(range(len(known) - len(held[lane])))
        now, coming = lanes.wanted(lane, 1, num_lanes=2)
        assert len(coming) == 3  # five ahead for two lanes, rounded up
        assert set(coming.tolist()).isdisjoint(now.tolist())
        assert coming.tolist() == [now.max() + 4 * n for n in (1, 2, 3)]
