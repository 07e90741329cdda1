from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from analytic_source import EVERYTHING, Analytic, analytic_fields, configuration

from pelagos.preprocessing.build.build_store import build


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
