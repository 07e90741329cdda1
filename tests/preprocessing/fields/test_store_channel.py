from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from analytic_source import EVERYTHING, Analytic, analytic_fields, configuration

from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.fields.store_channel import LinearConversion, StoreChannel
from pelagos.preprocessing.transform import Log1p
from pelagos.preprocessing.variables import Variable


def test_units_are_converted_before_the_transform(tmp_path: Path) -> None:
    found = analytic_fields(
        tmp_path,
        {"dtype": "float64"},
        convert={"velocity_x": {"units": "cm s-1", "scale": 100, "offset": 300}},
        transforms={"velocity_x": {"kind": "log1p", "scale": 2}},
    )
    exact = np.log1p((Analytic(dtype="float64").values("velocity_x") * 100 + 300) / 2)
    assert np.array_equal(found.read(*EVERYTHING)[:, :, 0], exact.astype(np.float32))
    assert found.state[0].variable.units == "cm s-1"
    transform = found.state[0].variable.transform
    assert transform is not None
    assert transform.inverse(transform.forward(np.array([0, 1e-9, 5.0]))) == pytest.approx(
        [0, 1e-9, 5], rel=1e-12
    )


def test_a_transform_is_recorded_in_the_store(tmp_path: Path) -> None:
    convert = {"velocity_x": {"units": "m s-1", "offset": 10}}
    path = build(configuration(tmp_path, convert=convert, transforms={"velocity_x": {"scale": 2}}))
    channels: Any = zarr.open_array(path / "state", mode="r").attrs["channels"]
    attrs = channels[0]
    assert attrs["transform"] == {"kind": "log1p", "scale": 2, "units": "m s-1"}
    assert (attrs["units"], attrs["long_name"]) == ("1", "ln(1 + velocity_x / 2 m s-1)")


def test_values_are_stored_as_they_are_without_conversion_and_transform() -> None:
    variable = Variable(name="rain", units="m")
    values = np.array([1.0, 2.0])
    plain = StoreChannel(variable, source="tp")
    assert plain.stored_as_is
    assert plain.to_stored(values) is values
    converted = StoreChannel(variable, source="tp", conversion=LinearConversion(1e-3, 0))
    transformed = StoreChannel(variable.model_copy(update={"transform": Log1p()}), source="tp")
    assert not converted.stored_as_is
    assert not transformed.stored_as_is
    assert converted.to_stored(values).tolist() == [1e-3, 2e-3]
    assert transformed.to_stored(values) == pytest.approx(np.log([2, 3]))


def test_conversions_are_made_in_double_precision() -> None:
    found = LinearConversion(1, -273.15)(np.array([273.15625], np.float32))
    assert found.dtype == np.float64
    assert found[0] == 273.15625 - 273.15
