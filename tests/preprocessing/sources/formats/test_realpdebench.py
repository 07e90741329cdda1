"""RealPDEBench in HDF5: a file a trajectory, parameters from the names once it is said what they are."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from pelagos.preprocessing.errors import ConfigError, DataError
from pelagos.preprocessing.sources.file_source import FileSource
from pelagos.preprocessing.sources.formats.realpdebench import RealPDEBench
from tests.preprocessing.sources.contracts import SourceContract

RNG = np.random.default_rng(0)


def save(path: Path, *keys: str, shape: tuple[int, ...] = (5, 6, 8)) -> np.ndarray:
    values = RNG.normal(size=shape).astype("f4")
    with h5py.File(path, "w") as file:
        for key in keys:
            file[key] = values + len(key)
    return values


class TestFluid(SourceContract):
    @pytest.fixture
    def source(self, tmp_path_factory: pytest.TempPathFactory) -> FileSource:
        folder = tmp_path_factory.mktemp("cylinder")
        for reynolds in (1500, 10031):
            save(folder / f"{reynolds}.h5", "measured_data/u", "measured_data/v", "measured_data/p")
        return RealPDEBench(paths=f"{folder}/*.h5", dt=0.02, parameters=("reynolds_number",))


class TestCombustion(SourceContract):
    @pytest.fixture
    def source(self, tmp_path_factory: pytest.TempPathFactory) -> FileSource:
        path = tmp_path_factory.mktemp("flame") / "40NH3_0.9.h5"
        save(path, "measured_data", shape=(5, 6, 8, 3))
        names = ("temperature", "velocity_x", "velocity_y")
        parameters = ("ammonia_percentage", "equivalence_ratio")
        return RealPDEBench(paths=str(path), dt=0.001, variables=names, parameters=parameters)


def test_numbers_in_the_names_become_scalars_once_they_are_named(tmp_path: Path) -> None:
    for name in ("2500_1.5.h5", "1800_0.5.h5"):
        save(tmp_path / name, "measured_data/u", "measured_data/v")
    path = f"{tmp_path}/*.h5"
    with pytest.raises(
        ConfigError, match=r"parameters: the name of .*1800_0\.5\.h5 holds 1800, 0\.5; say what"
    ):
        RealPDEBench(paths=path, dt=1).open()
    ds = RealPDEBench(paths=path, dt=1, parameters=("reynolds_number", "frequency")).open()
    np.testing.assert_array_equal(ds.reynolds_number, [1800, 2500])
    np.testing.assert_array_equal(ds.frequency, [0.5, 1.5])
    assert "frequency" not in RealPDEBench(paths=path, dt=1, parameters=()).open()


def test_rows_are_y_and_measurements_have_no_pressure(tmp_path: Path) -> None:
    values = save(tmp_path / "1500.h5", "measured_data/u", "measured_data/v")
    ds = RealPDEBench(paths=str(tmp_path / "1500.h5"), dt=1, parameters=()).open()
    assert set(ds) == {"velocity_x", "velocity_y"}
    np.testing.assert_array_equal(ds.velocity_x[0], values + len("measured_data/u"))
    assert (ds.attrs["license"], ds.attrs["boundary_x"]) == ("CC BY-NC 4.0", "open,open")


def test_measured_combustion_is_one_field(tmp_path: Path) -> None:
    values = save(tmp_path / "a.h5", "trajectory")
    ds = RealPDEBench(paths=str(tmp_path / "a.h5"), dt=1).open()
    np.testing.assert_array_equal(ds.observed[0], values + len("trajectory"))


def test_times_and_channels_are_asked_for_and_lengths_may_differ(tmp_path: Path) -> None:
    save(tmp_path / "a.h5", "measured_data", shape=(5, 6, 8, 3))
    with pytest.raises(ConfigError, match=r"dt: .*a\.h5 holds no times"):
        RealPDEBench(paths=str(tmp_path / "a.h5")).open()
    with pytest.raises(ConfigError, match=r"variables: .*has shape \(5, 6, 8, 3\); give a name for each"):
        RealPDEBench(paths=str(tmp_path / "a.h5"), dt=1).open()
    save(tmp_path / "b_x.h5", "trajectory")
    save(tmp_path / "b_y.h5", "trajectory", shape=(4, 6, 8))
    np.testing.assert_array_equal(
        RealPDEBench(paths=f"{tmp_path}/b_*.h5", dt=1).open().present.sum("time"), [5, 4]
    )
    assert RealPDEBench(paths=f"{tmp_path}/b_*.h5", dt=1, frames=4).open().sizes["time"] == 4


def test_measurements_and_simulations_are_kept_apart(tmp_path: Path) -> None:
    save(tmp_path / "a.h5", "measured_data/u", "measured_data/v")
    save(tmp_path / "b.h5", "measured_data/u", "measured_data/v", "measured_data/p")
    with pytest.raises(DataError, match=r"a\.h5 holds velocity_x, velocity_y but .*b\.h5 .*pressure"):
        RealPDEBench(paths=f"{tmp_path}/*.h5", dt=1).open()
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file["w"] = np.zeros(3)
    with pytest.raises(DataError, match=r"c\.h5 holds w; measured_data or trajectory would be right"):
        RealPDEBench(paths=str(tmp_path / "c.h5"), dt=1).open()
