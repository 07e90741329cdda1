import numpy as np
import pytest
from pydantic import ValidationError

from pelagos.preprocessing.transform import Asinh, Log1p, Shift, to_physical
from pelagos.preprocessing.variables import Variable


@pytest.mark.parametrize("scale", [1e-5, 1.0, 300.0])
def test_the_inverse_undoes_the_transform(scale: float) -> None:
    values = np.concatenate([np.geomspace(1e-12, 1e6, 50), [0.0, -0.5 * scale]])
    transform = Log1p(scale=scale)
    assert transform.inverse(transform.forward(values)) == pytest.approx(values, rel=1e-10, abs=1e-13)


@pytest.mark.parametrize("scale", [1e-5, 1.0, 300.0])
def test_heavy_tails_of_either_sign_come_back(scale: float) -> None:
    positive = np.geomspace(1e-12, 1e6, 50)
    values = np.concatenate([-positive[::-1], [0.0], positive])
    transform = Asinh(scale=scale)
    stored = transform.forward(values)
    assert transform.inverse(stored) == pytest.approx(values, rel=1e-10)
    assert stored == pytest.approx(-stored[::-1], rel=1e-12)
    assert stored.max() == pytest.approx(np.log(2e6 / scale), rel=1e-3)


def test_small_values_stay_nearly_linear_and_large_ones_logarithmic() -> None:
    transform = Log1p(scale=2.0)
    assert transform.forward(np.array([2e-9]))[0] == pytest.approx(1e-9, rel=1e-8)
    assert transform.forward(np.array([2e9]))[0] == pytest.approx(np.log(1e9), rel=1e-8)


def test_values_without_a_logarithm_are_infinite_and_missing_ones_stay_missing() -> None:
    found = Log1p(scale=0.5).forward(np.array([-0.5, -3.0, np.nan]))
    assert found[:2].tolist() == [-np.inf, -np.inf]
    assert np.isnan(found[2])


def test_each_channel_is_undone_by_its_own_transform() -> None:
    stored = np.ones((2, 3, 4, 5), np.float32)
    found = to_physical(stored, [None, Log1p(scale=2.0), None])
    assert found is stored
    assert (found[:, [0, 2]] == 1).all()
    assert found[:, 1] == pytest.approx(2 * (np.e - 1), rel=1e-6)


def test_a_forecast_that_blew_up_becomes_infinite_without_a_warning() -> None:
    assert to_physical(np.full((1, 1, 1), 1e9, np.float32), [Log1p()]).item() == np.inf


def test_the_scale_must_be_positive() -> None:
    with pytest.raises(ValidationError, match="greater than 0"):
        Log1p(scale=0)


def test_a_shift_keeps_a_signal_that_float32_would_round_away() -> None:
    signal = 101325 + 0.004 * np.sin(np.linspace(0, 6, 100))
    shift = Shift(offset=101325.0)
    stored = shift.forward(signal).astype(np.float32)
    back = to_physical(stored.reshape(1, 10, 10), [shift])
    assert back.dtype == np.float64
    # float32 keeps 24 bits of 0.004; without the shift 0.004 would be all of the error.
    assert back.ravel() == pytest.approx(signal, abs=1e-9)
    assert np.abs(signal.astype(np.float32) - signal).max() > 1e-3


def test_a_shift_beside_other_channels_leaves_their_values_as_they_are() -> None:
    stored = np.full((2, 3, 4, 4), 0.1, np.float32)
    found = to_physical(stored, [None, Shift(offset=300.0), Log1p(scale=2.0)])
    assert (found[:, 0] == np.float32(0.1)).all()
    assert found[:, 1] == pytest.approx(300 + np.float64(np.float32(0.1)), abs=0)
    assert found[:, 2] == pytest.approx(2 * np.expm1(0.1), rel=1e-6)


def test_a_variable_of_before_there_were_shifts_is_read() -> None:
    known = Variable.model_validate({"name": "rain", "transform": {"kind": "log1p", "scale": 2.0}})
    assert known.transform == Log1p(scale=2.0)
    shifted = Variable(name="pressure", units="Pa", transform=Shift(offset=1e5))
    assert Variable.model_validate_json(shifted.model_dump_json()) == shifted
    assert shifted.describe_values() == "pressure - 100000.0 Pa"
