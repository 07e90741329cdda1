import numpy as np
import pytest

from pelagos.preprocessing.array_types import Float32s
from pelagos.preprocessing.store.coding import REACH, Coding

MEANS, STDS = np.array([101325.0, 3e-6, 0.3, 7.5, 0.0]), np.array([900.0, 2e-6, 0.46, 0.0, np.nan])
CODING = Coding.about(MEANS, STDS)


def coded(values: list[float], channel: int) -> Float32s:
    """What 16 bits hold of the values of one channel."""
    x, out = np.array([values], np.float32), np.empty((1, len(values)), np.float32)
    CODING.encode(x, halves := np.empty(x.shape, np.float16), channel)
    CODING.decode(halves, out, channel)
    found: Float32s = out[0]
    return found


@pytest.mark.parametrize("channel", range(3))
def test_values_lose_less_than_a_two_thousandth_of_their_distance_from_the_mean(channel: int) -> None:
    values = MEANS[channel] + STDS[channel] * np.random.default_rng(0).normal(size=1000)
    errors = coded(values.tolist(), channel) - values.astype(np.float32)
    distance = np.abs(values - MEANS[channel]) + STDS[channel]
    assert (np.abs(errors) <= distance / 2048 + 6e-8 * np.abs(values)).all()
    assert errors.any()


def test_masks_constants_and_nothing_stay_exact() -> None:
    assert coded([0.0, 1.0, 0.5], 2).tolist() == [0, 1, 0.5]
    assert coded([7.5], 3).tolist() == [7.5]
    assert coded([0.0, 1.0], 4).tolist() == [0, 1]


@pytest.mark.parametrize("value", [101325.0, -0.1, 1e-30, 3e30])
@pytest.mark.parametrize("noise", [0.0, 1e-16])
def test_any_constant_stays_exact(value: float, noise: float) -> None:
    one, x = Coding.about(np.array([value]), np.array([abs(value) * noise])), np.array([[value]], np.float32)
    one.encode(x, halves := np.empty(x.shape, np.float16))
    one.decode(halves, out := np.empty_like(x))
    assert out[0, 0] == x[0, 0]
    assert abs(value) < REACH * float(one.scale[0])


def test_missing_values_stay_and_values_out_of_reach_become_infinite() -> None:
    reach = REACH * float(CODING.scale[0])
    found = coded([np.nan, MEANS[0] + 0.99 * reach, MEANS[0] + 1.01 * reach, MEANS[0] - 1.01 * reach], 0)
    assert np.isnan(found[0])
    assert found[1] == pytest.approx(MEANS[0] + 0.99 * reach, rel=1e-3)
    assert found[2:].tolist() == [np.inf, -np.inf]


def test_products_with_the_scale_are_exact() -> None:
    assert np.log2(CODING.scale).tolist() == np.round(np.log2(CODING.scale)).tolist()


def test_a_coding_survives_json_and_is_selected_by_channel() -> None:
    same = Coding.from_json(CODING.to_json())
    assert np.array_equal(same.scale, CODING.scale)
    assert np.array_equal(same.offset, CODING.offset)
    joined = CODING.select([2, 0]).join(CODING.select([1]))
    assert joined.offset.tolist() == CODING.offset[[2, 0, 1]].tolist()
