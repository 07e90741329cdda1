import json

import numpy as np
import pytest

from pelagos.preprocessing.channel_statistics.measures import Measures, measure_block, merge_measures


def measured(block: np.ndarray, training: np.ndarray, before: np.ndarray, trained: np.ndarray) -> Measures:
    return measure_block(block, block[:0, 0], training, np.ones_like(training), before, trained)


def test_blocks_of_time_measure_what_whole_trajectories_do() -> None:
    rng = np.random.default_rng(0)
    x_NTCHW = rng.normal(size=(3, 10, 2, 4, 4)).astype(np.float32)
    training = rng.random((3, 10)) < 0.7
    whole = measured(x_NTCHW, training, x_NTCHW[:0, 0], training[:0, 0])
    blocks = merge_measures(
        [
            measured(x_NTCHW[:, :4], training[:, :4], x_NTCHW[:0, 0], training[:0, 0]),
            measured(x_NTCHW[:, 4:], training[:, 4:], x_NTCHW[:, 3], training[:, 3]),
        ]
    )
    pairs = training[:, 1:] & training[:, :-1]
    assert whole.tendency.count.tolist() == [pairs.sum() * 16] * 2
    assert blocks.tendency.count.tolist() == whole.tendency.count.tolist()
    assert blocks.tendency.mean == pytest.approx(whole.tendency.mean, rel=1e-10)
    assert blocks.state.m2 == pytest.approx(whole.state.m2, rel=1e-10)
    exact = x_NTCHW[training].astype(np.float64)
    assert whole.state.mean == pytest.approx(exact.mean((0, 2, 3)), rel=1e-10)


def test_the_mask_shows_where_training_frames_ever_have_a_value() -> None:
    x_NTCHW = np.ones((2, 3, 1, 2, 2), np.float32)
    x_NTCHW[:, :, 0, 0, 0] = np.nan
    x_NTCHW[0, :, 0, 0, 1] = np.nan
    x_NTCHW[0, 0, 0, 1, 1] = np.nan
    training = np.array([[True] * 3, [False] * 3])
    found = measured(x_NTCHW, training, x_NTCHW[:0, 0], training[:0, 0])
    assert found.mask[0].tolist() == [[False, False], [True, True]]
    assert found.num_missing == 10
    again = Measures.from_json(json.loads(json.dumps(found.to_json())), (1, 2, 2))
    assert np.array_equal(again.mask, found.mask)
