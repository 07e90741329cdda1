import numpy as np
import pytest

from pelagos.preprocessing.channel_statistics.rounding import Rounding, shares


def measured(errors: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> Rounding:
    """Of the errors of consecutive fields of the second of two channels."""
    rounding = Rounding.none(2)
    for number, field in enumerate(errors):
        rounding.add(1, field)
        if number:
            rounding.add(1, field - errors[number - 1], increment=True)
    return rounding


def test_errors_are_those_of_all_values_that_are_there() -> None:
    errors = np.random.default_rng(0).normal(size=(4, 3, 5)).astype(np.float32)
    errors[2, 1, 1] = np.nan
    whole, first, second = measured(errors), measured(errors[:2]), measured(errors[2:])
    assert whole.rms[1] == pytest.approx(np.sqrt(np.nanmean(np.square(errors))))
    assert whole.largest.tolist() == [0, np.nanmax(np.abs(errors))]
    assert whole.increment_rms[1] == pytest.approx(np.sqrt(np.nanmean(np.square(np.diff(errors, axis=0)))))
    merged = first.merge(second)
    assert merged.count.tolist() == whole.count.tolist() == [0, 59]
    assert merged.rms == pytest.approx(whole.rms)
    assert Rounding.from_json(whole.to_json()).to_json() == whole.to_json()


def test_shares_of_what_does_not_vary_are_none() -> None:
    assert shares(np.array([1.0, 1.0]), np.array([4.0, 0.0])).tolist() == [0.25, 0]
