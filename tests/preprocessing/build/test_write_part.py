from pathlib import Path
from typing import Any

import pytest
from analytic_source import configuration

from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.errors import DataError


def test_missing_values_are_errors_that_name_the_place(tmp_path: Path) -> None:
    source = {"missing": (3, 2), "path": str(tmp_path / "archive")}
    (tmp_path / "archive").write_bytes(bytes(6))
    with pytest.raises(
        DataError,
        match=r"archive: velocity_x, trajectory 3, time 2 \(1\.0\), y 0, x 1: .*missing \(NaN\); `missing: keep`",
    ):
        build(configuration(tmp_path, source))


def test_infinite_values_always_are_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"velocity_x, trajectory 2, time 1 .*the value is inf in float32"):
        build(configuration(tmp_path, {"infinite": (2, 1)}, missing="keep"))


def test_values_beyond_float32_are_errors(tmp_path: Path) -> None:
    convert = {"velocity_y": {"units": "nm s-1", "scale": 1e300}}
    with pytest.raises(DataError, match=r"velocity_y, trajectory 0, time 0 .* change the units"):
        build(configuration(tmp_path, {"dtype": "float64"}, convert=convert))


def test_values_without_a_logarithm_are_errors_even_where_missing_ones_are_kept(tmp_path: Path) -> None:
    options: dict[str, Any] = {"missing": "keep", "transforms": {"velocity_x": {"scale": 0.1}}}
    with pytest.raises(DataError, match=r"velocity_x, trajectory 3, .*the value is -inf .* its transform"):
        build(configuration(tmp_path, **options))
