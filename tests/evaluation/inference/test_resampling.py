import numpy as np

from pelagos.evaluation.inference.estimate import interval
from pelagos.evaluation.inference.resampling import blocks_of, draw_counts


def test_starts_of_one_trajectory_are_one_block_where_there_are_many_trajectories() -> None:
    blocks = blocks_of(np.repeat(np.arange(12), 3), np.tile([0, 5, 10], 12), reach=2)
    assert (blocks.kind, blocks.count, blocks.few) == ("trajectory", 12, False)
    np.testing.assert_array_equal(blocks.of_sample, np.repeat(np.arange(12), 3))


def test_one_long_record_is_cut_into_runs_no_shorter_than_a_forecast() -> None:
    start = np.arange(0, 100, 4)
    blocks = blocks_of(np.zeros(25, np.int64), start, reach=10)
    assert (blocks.kind, blocks.count) == ("time", 10)
    for block in range(10):
        inside = start[blocks.of_sample == block]
        assert inside.max() - inside.min() < 10


def test_runs_do_not_join_starts_of_different_trajectories() -> None:
    blocks = blocks_of(np.array([3, 3, 7, 7]), np.array([0, 20, 0, 20]), reach=10)
    assert (blocks.kind, blocks.count, blocks.few) == ("time", 4, True)


def test_one_start_each_leaves_the_trajectories_as_they_are() -> None:
    assert blocks_of(np.arange(4), np.zeros(4, np.int64), reach=10).kind == "trajectory"


def test_members_of_a_block_are_drawn_together_and_draws_repeat_with_the_seed() -> None:
    blocks = blocks_of(np.repeat(np.arange(20), 2), np.tile([0, 1], 20), reach=1)
    counts = draw_counts(blocks, 50, seed=3)
    np.testing.assert_array_equal(counts[0], 1)
    np.testing.assert_array_equal(counts[:, ::2], counts[:, 1::2])
    np.testing.assert_array_equal(counts.sum(axis=1), 40)
    np.testing.assert_array_equal(counts, draw_counts(blocks, 50, seed=3))
    assert not np.array_equal(counts, draw_counts(blocks, 50, seed=4))


def test_a_single_block_cannot_be_resampled() -> None:
    assert draw_counts(blocks_of(np.zeros(3, np.int64), np.zeros(3, np.int64), 1)).shape == (1, 3)


def test_block_means_leave_out_what_is_undefined() -> None:
    blocks = blocks_of(np.repeat(np.arange(10), 2), np.zeros(20, np.int64), 1)
    values = np.r_[1.0, np.nan, np.nan, np.nan, np.arange(16)]
    means = blocks.means(values)
    np.testing.assert_array_equal(means[:3], [1.0, np.nan, 0.5])


def test_intervals_of_blocks_cover_the_mean_where_those_of_single_starts_do_not() -> None:
    # Forty trajectories of ten starts each, all starts of a trajectory alike: forty pieces of evidence, not 400.
    rng, covered = np.random.default_rng(0), {True: 0, False: 0}
    together, alone = np.repeat(np.arange(40), 10), np.arange(400)
    counts = {
        True: draw_counts(blocks_of(together, np.zeros(400, np.int64), 1), 200),
        False: draw_counts(blocks_of(alone, np.zeros(400, np.int64), 1), 200),
    }
    for _ in range(200):
        scores = np.repeat(rng.normal(size=40), 10)
        for blocked, weights in counts.items():
            low, high = interval(weights[1:] @ scores / 400)
            covered[blocked] += bool(low <= 0 <= high)
    # 95 % of 200, five binomial deviations below at most.
    assert covered[True] >= 175
    assert covered[False] < 120
