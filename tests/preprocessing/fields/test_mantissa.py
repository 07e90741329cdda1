from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from analytic_source import Analytic, configuration

from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.fields.mantissa import round_mantissa
from pelagos.preprocessing.store.store import open_store


@pytest.mark.parametrize("bits", [1, 7, 12, 22])
def test_rounding_keeps_so_many_bits_and_tells_the_error(bits: int) -> None:
    values = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    values[:3] = [np.nan, 0, np.inf]
    rounded = values.copy()
    error = round_mantissa(rounded, bits)
    assert not (rounded.view(np.uint32)[3:] & ((1 << (23 - bits)) - 1)).any()
    exact = np.abs((rounded[3:].astype(np.float64) - values[3:]) / values[3:]).max()
    assert error == exact
    assert 0 < error <= 2.0 ** -(bits + 1)
    assert np.isnan(rounded[0])
    assert (rounded[1], rounded[2]) == (0, np.inf)


def test_ties_are_rounded_to_even() -> None:
    values = np.array([1 + 2**-3, 1 + 3 * 2**-3], np.float32)
    round_mantissa(values, 2)
    assert values.tolist() == [1, 1.5]


def test_rounding_is_recorded_with_its_error(tmp_path: Path) -> None:
    path = build(configuration(tmp_path, bits={"velocity_y": 6}))
    attrs: Any = zarr.open_array(path / "state", mode="r").attrs["channels"]
    assert "quantization_nsb" not in attrs[0]
    assert attrs[1]["quantization_nsb"] == 6
    stored = np.stack([open_store(path).read(i, 0, 5)[:, 1] for i in range(6)]).astype(np.float64)
    exact = Analytic().values("velocity_y")
    assert attrs[1]["quantization_relative_error"] == np.abs((stored - exact) / exact).max()
