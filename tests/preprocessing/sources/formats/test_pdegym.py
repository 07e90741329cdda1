"""PDEGym: every set's layout is read as the table says, and what is written is read again."""

from pathlib import Path

import numpy as np
import pytest

from pelagos.preprocessing.errors import ConfigError, DataError
from pelagos.preprocessing.sources.file_source import FileSource
from pelagos.preprocessing.sources.formats.pdegym import PDEGym
from tests.preprocessing.sources.contracts import SourceContract
from tests.preprocessing.sources.formats.pdegym_archive import store, values


class TestPDEGym(SourceContract):
    @pytest.fixture
    def source(self, tmp_path_factory: pytest.TempPathFactory) -> FileSource:
        folder = tmp_path_factory.mktemp("hub")
        for i, count in enumerate((2, 1, 3)):
            store(folder / f"velocity_{i}.nc", velocity=values(count, 21, 3, 6, 4))
        return PDEGym(paths=f"{folder}/velocity_*.nc", dataset="NS-PwC")


def test_the_forcing_that_kolmogorov_flow_does_not_store_is_made(tmp_path: Path) -> None:
    path = store(tmp_path / "a.nc", solution=values(1, 3, 2, 8, 8))
    ds = PDEGym(paths=str(path), dataset="FNS-KF").open()
    # f(x, y) = 0.1 sin(2π(x + y)) has mean square 0.005 and one wave along each axis
    assert float((ds.source.astype("f8") ** 2).mean()) == pytest.approx(0.005)
    np.testing.assert_allclose(ds.source.sel(x=0.25, y=0), 0.1, rtol=1e-6)
    np.testing.assert_allclose(ds.source.sel(x=0.25, y=0.25), 0, atol=1e-7)


def test_a_release_with_another_key_is_read_when_told(tmp_path: Path) -> None:
    path = store(tmp_path / "a.nc", solution=values(1, 2, 2, 4, 4))
    with pytest.raises(DataError, match=r"a\.nc: no 'velocity' in '/'; it holds solution"):
        PDEGym(paths=str(path), dataset="NS-BB").open()
    assert "velocity_y" in PDEGym(paths=str(path), dataset="NS-BB", key="solution").open()


def test_a_set_that_is_not_in_the_table_is_described(tmp_path: Path) -> None:
    array, drag = values(2, 3, 2, 4, 4), values(2, 4, 4)
    path = store(tmp_path / "a.nc", state=array, d=drag)
    source = PDEGym.model_validate(
        {
            "paths": str(path),
            "dataset": "mine",
            "key": "state",
            "variables": ["activator", "inhibitor"],
            "static": {"d": "drag"},
            "dt": 0.5,
            "boundary": {"y": "wall", "x": ["open", "wall"]},
            "length": 2.0,
        }
    )
    ds = source.open()
    np.testing.assert_array_equal(ds.inhibitor, array[:, :, 1])
    np.testing.assert_array_equal(ds.drag, drag)
    np.testing.assert_array_equal(ds.time, [0, 0.5, 1])
    np.testing.assert_array_equal(ds.x, [0, 0.5, 1, 1.5])
    assert (ds.attrs["boundary_y"], ds.attrs["boundary_x"]) == ("wall,wall", "open,wall")


def test_an_unknown_set_asks_for_what_is_missing(tmp_path: Path) -> None:
    path = store(tmp_path / "a.nc", velocity=values(1, 2, 2, 4, 4))
    with pytest.raises(
        ConfigError, match=r"'NS-Sine' .*did you mean NS-Sines\?.*key, variables, boundary missing"
    ):
        PDEGym(paths=str(path), dataset="NS-Sine").open()
    described = {"key": "velocity", "variables": ("velocity_x", "velocity_y"), "boundary": "periodic"}
    with pytest.raises(ConfigError, match=r"dt: .*no times"):
        PDEGym(paths=str(path), dataset="mine", **described).open()


def test_variables_select_fields_of_a_known_set(tmp_path: Path) -> None:
    path = store(tmp_path / "a.nc", velocity=values(1, 2, 3, 4, 4))
    ds = PDEGym(paths=str(path), dataset="NS-PwC", variables=("velocity_y", "tracer")).open()
    assert set(ds) == {"velocity_y", "tracer"}
    with pytest.raises(DataError, match="no pressure; it has velocity_x, velocity_y, tracer"):
        PDEGym(paths=str(path), dataset="NS-PwC", variables=("pressure",)).open()
