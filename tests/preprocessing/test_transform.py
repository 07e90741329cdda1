import numpy as np
import pytest
from pydantic import ValidationError

from pelagos.preprocessing.transform import Log1p, to_physical


@pytest.mark.parametrize("scale", [1e-5, 1.0, 300.0])
def test_the_inverse_undoes_the_transform(scale: float) -> None:
    values = np.concatenate([np.geomspace(1e-12, 1e6, 50), [0.0, -0.5 * scale]])
    transform = Log1p(scale=scale)
    assert transform.inverse(transform.forward(values)) == pytest.approx(values, rel=1e-10, abs=1e-13)


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
