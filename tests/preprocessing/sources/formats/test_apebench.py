"""APEBench's `.npy` files: x before y, channels by name, settings from the JSON beside them or asked for."""

import json
from pathlib import Path

import numpy as np
import pytest

from pelagos.preprocessing.errors import ConfigError, DamagedFileError, DataError
from pelagos.preprocessing.sources.file_source import FileSource
from pelagos.preprocessing.sources.formats.apebench import APEBench
from tests.preprocessing.sources.contracts import SourceContract

RNG = np.random.default_rng(0)


def save(path: Path, *shape: int, info: dict[str, object] | None = None) -> np.ndarray:
    values = RNG.normal(size=shape).astype("f4")
    np.save(path, values)
    if info is not None:
        name = path.stem.removesuffix("_train")
        path.with_name(f"{name}.json").write_text(json.dumps({"name": name, "info": info}))
    return values


class TestPhysical(SourceContract):
    @pytest.fixture
    def source(self, tmp_path_factory: pytest.TempPathFactory) -> FileSource:
        path = tmp_path_factory.mktemp("ape") / "2d_phy_decay_turb_train.npy"
        save(path, 3, 5, 1, 8, 6, info={"dt": 0.1, "domain_extent": 2.0, "diffusivity": 1e-4})
        return APEBench(paths=str(path))


class TestByDifficulty(SourceContract):
    @pytest.fixture
    def source(self, tmp_path_factory: pytest.TempPathFactory) -> FileSource:
        path = tmp_path_factory.mktemp("ape") / "1d_diff_gs_test.npy"
        save(path, 3, 5, 2, 8)
        return APEBench(paths=str(path), dt=1, length=1, variables=("activator", "inhibitor"))


def test_the_real_files_are_read_as_numpy_reads_them_with_x_before_y(shared: Path) -> None:
    for part, frames in (("train", 21), ("test", 41)):
        path = shared / f"data/pde/2d_phy_kolm_flow_{part}.npy"
        ds = APEBench(paths=str(path), dt=0.1, length=2 * np.pi).open()
        expected = np.load(path)[:, :, 0].swapaxes(-1, -2)
        np.testing.assert_array_equal(ds.clockwise_vorticity, expected)
        assert ds.sizes["time"] == frames
        assert ds.attrs["boundary_y"] == "periodic,periodic"


def test_the_first_spatial_axis_is_x(tmp_path: Path) -> None:
    values = save(tmp_path / "a.npy", 1, 2, 1, 8, 4)
    ds = APEBench(paths=str(tmp_path / "a.npy"), dt=0.5, length=4).open()
    assert (ds.sizes["x"], ds.sizes["y"]) == (8, 4)
    assert float(ds.u.sel(trajectory=0, time=0.5, x=3.5, y=2)) == values[0, 1, 0, 7, 2]


def test_channels_are_variables(tmp_path: Path) -> None:
    values = save(tmp_path / "2d_phy_burgers_train.npy", 1, 2, 2, 4, 4)
    ds = APEBench(paths=str(tmp_path / "2d_phy_burgers_train.npy"), dt=1, length=1).open()
    np.testing.assert_array_equal(ds.velocity_y[0], values[0, :, 1].swapaxes(-1, -2))
    save(tmp_path / "b.npy", 1, 2, 2, 4, 4)
    with pytest.raises(ConfigError, match=r"variables: .*b\.npy .* has 2 channels; give 2 names, not 0"):
        APEBench(paths=str(tmp_path / "b.npy"), dt=1, length=1).open()


def test_settings_come_from_the_json_and_are_asked_for_without(tmp_path: Path) -> None:
    path = tmp_path / "2d_phy_kolm_flow_train.npy"
    save(path, 1, 3, 1, 4, 4, info={"dt": 0.25, "domain_extent": 2.0, "diffusivity": 0.01, "drag": -0.1})
    ds = APEBench(paths=str(path)).open()
    np.testing.assert_array_equal(ds.time, [0, 0.25, 0.5])
    np.testing.assert_array_equal(ds.x, [0, 0.5, 1, 1.5])
    assert (float(ds.viscosity), float(ds.drag)) == (0.01, -0.1)
    beside = tmp_path / "2d_phy_kolm_flow.json"
    beside.write_text("{}")
    with pytest.raises(DamagedFileError, match=r"flow\.json: not the JSON of an APEBench scenario"):
        APEBench(paths=str(path)).open()
    beside.unlink()
    with pytest.raises(ConfigError, match=r"dt: .* nor does 2d_phy_kolm_flow\.json beside it"):
        APEBench(paths=str(path)).open()
    with pytest.raises(ConfigError, match="length: "):
        APEBench(paths=str(path), dt=1).open()


def test_horizons_of_training_and_test_are_kept_apart(tmp_path: Path) -> None:
    for part, frames in (("train", 3), ("test", 5)):
        save(tmp_path / f"a_{part}.npy", 1, frames, 1, 4, 4)
    with pytest.raises(DataError, match=r"a_test\.npy and .*a_train\.npy differ in time: 5 and 3 points"):
        APEBench(paths=f"{tmp_path}/*.npy", dt=1, length=1).open()


class TestPhysicalIn3D(SourceContract):
    @pytest.fixture
    def source(self, tmp_path_factory: pytest.TempPathFactory) -> FileSource:
        path = tmp_path_factory.mktemp("ape") / "3d_phy_burgers_train.npy"
        save(path, 3, 5, 3, 6, 5, 4, info={"dt": 0.1, "domain_extent": 2.0, "diffusivity": 1e-4})
        return APEBench(paths=str(path))


def test_planes_along_z_are_levels_and_every_axis_keeps_its_direction(tmp_path: Path) -> None:
    n, t, c, x, y, z = np.indices((1, 2, 3, 6, 4, 3))
    np.save(
        tmp_path / "3d_phy_burgers_train.npy", (n + t + 10 * x + 100 * y + 1000 * z + 10000 * c).astype("f4")
    )
    ds = APEBench(paths=f"{tmp_path}/*.npy", dt=1, length=12).open()
    indices = 10 * ds.x / 2 + 100 * ds.y / 3 + 1000 * ds.level / 4
    for number, name in enumerate(("velocity_x", "velocity_y", "velocity_z")):
        assert bool((ds[name] == ds.time + indices + 10000 * number).all())
    assert ds.level.attrs["boundary"] == "periodic,periodic"


def test_four_dimensions_and_objects_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "a.npy", 1, 2, 1, 4, 4, 4, 4)
    np.save(tmp_path / "b.npy", np.array([{}]), allow_pickle=True)
    for name, message in (
        ("a.npy", r"or \(\.\., x, y, z\) would be right"),
        ("b.npy", "holds Python objects"),
    ):
        with pytest.raises(DataError, match=message):
            APEBench(paths=str(tmp_path / name), dt=1, length=1).open()
