from pathlib import Path

import numpy as np
import pytest

from pelagos.preprocessing.samples.dataset import DatasetConfig
from pelagos.preprocessing.samples.sample_index import index_samples
from pelagos.preprocessing.samples.window_sampling import RolloutSampling, WindowSampling, allowed_starts


def test_rollouts_are_all_windows_of_a_split() -> None:
    frames = np.ones((2, 8), bool)
    frames[0, 5:] = False
    index = index_samples(frames, RolloutSampling(steps=2, lead=2))
    windows = index.lookup(np.arange(index.num_samples)).tolist()
    assert windows == [[0, 0, 4], [1, 0, 4], [1, 1, 5], [1, 2, 6], [1, 3, 7]]
    bounded = index_samples(frames, RolloutSampling(steps=2, lead=2, start=1, min_start=2, max_start=2))
    assert bounded.lookup(np.arange(bounded.num_samples)).tolist() == [[1, 2, 6]]


@pytest.mark.parametrize("curriculum", [[[5, 1]], [[0, 2], [4, 1]], [[0, 1], [0, 2]], [[0, 1], [4, 3]]])
def test_a_curriculum_that_does_not_grow_is_refused(tmp_path: Path, curriculum: list[list[int]]) -> None:
    with pytest.raises(ValueError, match="must begin at training step 0 and grow to at most steps: 2"):
        DatasetConfig(path=tmp_path, sampling={"kind": "windows", "steps": 2, "curriculum": curriculum})


@pytest.mark.parametrize(
    "options", [{}, {"lead": 3}, {"every": 3, "start": 1}, {"min_start": 2, "max_start": 5}]
)
def test_counts_are_the_windows_that_fit_into_the_run(options: dict[str, int]) -> None:
    sampling = WindowSampling(steps=2, **options)
    for first, num in ((1, 9), (4, 3), (2, 1)):
        fits = [
            (t - sampling.start) % sampling.every == 0
            and sampling.min_start <= t <= (9 if sampling.max_start is None else sampling.max_start)
            and t + 2 * sampling.lead < first + num
            for t in range(first, first + num)
        ]
        assert sampling.counts(first, num).tolist() == fits


def test_a_curriculum_lengthens_forecasts_at_its_steps_and_keeps_the_samples() -> None:
    short = WindowSampling(steps=4, curriculum=((0, 1), (10, 2), (20, 4)))
    assert [short.steps_at(step) for step in (0, 9, 10, 19, 20, 10**6)] == [1, 1, 2, 2, 4, 4]
    assert WindowSampling(steps=4).steps_at(0) == 4
    assert np.array_equal(short.counts(0, 12), WindowSampling(steps=4).counts(0, 12))


def test_the_bounds_of_starts_belong_to_them() -> None:
    assert allowed_starts(np.arange(6), 2, 4).tolist() == [False, False, True, True, True, False]
    assert allowed_starts(np.arange(3), 1, None).tolist() == [False, True, True]
