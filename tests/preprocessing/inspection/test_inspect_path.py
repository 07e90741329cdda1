from pathlib import Path

import pytest
from analytic_source import configuration

from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.errors import DataError, MissingFileError
from pelagos.preprocessing.inspection.inspect_path import inspect


def test_a_store_is_told_on_one_screen(tmp_path: Path) -> None:
    source = {
        "static": "varying",
        "scalars": True,
        "missing": (0, 1),
        "levels": [500, 850],
        "level_units": "hPa",
    }
    text = inspect(build(configuration(tmp_path, source, missing="keep", bits={"velocity_x": 7})))
    assert "analytic 1: 6 trajectories of 5 frames, 4 channels, 8 x 8 points" in text
    assert "time step   0.25 s" in text
    assert "grid        cartesian, beyond the edges: y wall, wall; x periodic, periodic" in text
    assert "levels      2 from 500 to 850 hPa" in text
    assert "scalars     viscosity" in text
    assert "missing     4 values" in text
    assert "velocity_x@500" in text
    assert "train       4 trajectories, 20 frames" in text
    assert "built from  external" in text
    assert len(text.splitlines()) < 30


def test_what_is_no_store_is_taken_for_an_archive(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_bytes(b"hello")
    with pytest.raises(DataError, match=r"notes\.txt: no format recognises it"):
        inspect(tmp_path / "notes.txt")
    with pytest.raises(MissingFileError):
        inspect(tmp_path / "nothing")


def test_a_store_that_is_not_complete_is_not_taken_for_an_archive(tmp_path: Path) -> None:
    growing = build(configuration(tmp_path, part="1/2"))
    with pytest.raises(MissingFileError, match=r"analytic-1\.zarr"):
        inspect(growing.with_name("analytic-1.zarr"))
    assert "analytic-1.zarr" in inspect(tmp_path)
