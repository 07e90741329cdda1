from typing import Any

import numpy as np
import pytest

from pelagos.preprocessing.errors import ConfigError
from pelagos.preprocessing.samples.sample_index import PairSampling, index_samples


def all_pairs(frames: np.ndarray, num: int | None = None, **options: Any) -> list[tuple[int, int, int]]:
    index = index_samples(frames, PairSampling(**options), num)
    return [tuple(row) for row in index.lookup(np.arange(index.num_samples)).tolist()]


def test_all_pairs_of_earlier_and_later_frames_are_samples() -> None:
    found = all_pairs(np.ones((2, 4), bool))
    assert found == [(n, i, j) for n in range(2) for i in range(4) for j in range(i + 1, 4)]
    found = all_pairs(np.ones((1, 4), bool), identity=True)
    assert found == [(0, i, j) for i in range(4) for j in range(i, 4)]


def test_poseidons_pretraining_has_66_pairs_a_trajectory() -> None:
    # Frames 0, 2, ..., 20 with identity pairs (Herde et al. 2024).
    found = all_pairs(np.ones((1, 21), bool), stride=2, identity=True)
    assert len(found) == 66
    assert {frame for _, *frames in found for frame in frames} == set(range(0, 21, 2))


@pytest.mark.parametrize(
    ("options", "allowed"),
    [
        ({"max_lead": 3}, lambda i, j: j - i <= 3),
        ({"start": 2}, lambda i, j: i >= 2),
        ({"stop": 7}, lambda i, j: j < 7),
        ({"min_start": 3}, lambda i, j: i >= 3),
        ({"max_start": 0}, lambda i, j: i == 0),
        ({"stride": 3, "start": 1, "max_lead": 7}, lambda i, j: i % 3 == j % 3 == 1 and j - i <= 7),
    ],
)
def test_sampling_takes_a_part_of_the_pairs(options: dict[str, int], allowed: Any) -> None:
    expected = [(0, i, j) for i in range(10) for j in range(i + 1, 10) if allowed(i, j)]
    assert all_pairs(np.ones((1, 10), bool), **options) == expected


def test_a_pair_and_all_between_are_in_the_split() -> None:
    frames = np.random.default_rng(0).random((5, 30)) < 0.8
    expected = [
        (n, i, j)
        for n in range(5)
        for i in range(30)
        for j in range(i, min(30, i + 7))
        if frames[n, i : j + 1].all() and i % 2 == j % 2 == 1
    ]
    assert all_pairs(frames, start=1, stride=2, max_lead=6, identity=True) == expected


def test_samples_begin_as_far_into_a_run_as_their_history_reaches() -> None:
    frames = np.ones((1, 9), bool)
    frames[0, 4] = False
    index = index_samples(frames, PairSampling(), reach=2)
    found = [tuple(row[1:]) for row in index.lookup(np.arange(index.num_samples)).tolist()]
    assert found == [(2, 3), (7, 8)]


def test_few_shots_are_the_first_trajectories_of_the_split() -> None:
    frames = np.ones((6, 3), bool)
    frames[[0, 2]] = False
    assert {n for n, _, _ in all_pairs(frames, 2)} == {1, 3}
    with pytest.raises(ConfigError, match="num_trajectories: 5 of the 4 in the split"):
        all_pairs(frames, 5)


def test_no_pairs_is_an_error() -> None:
    with pytest.raises(ConfigError, match="no samples: the split has 2 trajectories of 3 frames"):
        all_pairs(np.ones((2, 3), bool), start=2)


def test_the_index_does_not_grow_with_the_number_of_pairs() -> None:
    index = index_samples(np.ones((10, 2000), bool), PairSampling())
    assert index.num_samples == 10 * 2000 * 1999 // 2
    assert sum(table.size for table in index.cumulative) + index.ends.size < 2100
    assert index.lookup(np.array([index.num_samples - 1])).tolist() == [[9, 1998, 1999]]
