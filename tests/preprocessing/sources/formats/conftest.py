"""Fixtures of the tests of formats."""

from pathlib import Path

import pytest

from tests.preprocessing.sources.formats.well_archive import WellArchive


@pytest.fixture
def well(tmp_path: Path) -> WellArchive:
    made = WellArchive(tmp_path / "small.hdf5")
    made.array("t0_fields", "density", "sample time x y")
    return made
