"""CFDBench's folders: the obstacle is drawn, settings become scalars, cases that do not fit are asked about."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pelagos.preprocessing.errors import ConfigError, DamagedFileError, MissingFileError
from pelagos.preprocessing.sources.file_source import FileSource
from pelagos.preprocessing.sources.formats.cfdbench import CFDBench
from tests.preprocessing.sources.contracts import SourceContract

RNG = np.random.default_rng(0)
CAVITY = {"vel_top": 10, "density": 1.0, "viscosity": 1e-3, "height": 0.5, "width": 1.0}
CYLINDER = {"vel_in": 1.0, "density": 10, "viscosity": 1e-3, "radius": 0.25} | {
    "x_min": -1.0,
    "x_max": 3.0,
    "y_min": -1.0,
    "y_max": 1.0,
}
DAM = {"velocity": 0.05, "density": 100.0, "viscosity": 0.1, "barrier_height": 0.1, "barrier_width": 0.25} | {
    "height": 0.4,
    "width": 1.5,
}


def case(folder: Path, settings: dict[str, Any], frames: int = 4) -> dict[str, np.ndarray]:
    folder.mkdir(parents=True)
    (folder / "case.json").write_text(json.dumps(settings))
    fields = {key: RNG.normal(size=(frames, 8, 16)).astype("f4") for key in ("u", "v")}
    for key, values in fields.items():
        np.save(folder / f"{key}.npy", values)
    return fields


class TestCFDBench(SourceContract):
    @pytest.fixture
    def source(self, tmp_path_factory: pytest.TempPathFactory) -> FileSource:
        folder = tmp_path_factory.mktemp("cavity") / "bc"
        for i in range(3):
            case(folder / f"case{i:04d}", CAVITY | {"vel_top": i})
        return CFDBench(paths=str(folder))

    def vital(self, path: Path) -> Path:
        return path / "case0001/u.npy"


def test_rows_are_y_and_settings_scalars(tmp_path: Path) -> None:
    for i in (10, 9):
        fields = case(tmp_path / f"cavity/case{i:04d}", CAVITY | {"vel_top": i})
    ds = CFDBench(paths=str(tmp_path / "cavity")).open()
    np.testing.assert_array_equal(ds.velocity_x[0], fields["u"])
    np.testing.assert_array_equal(ds.velocity_y[0], fields["v"])
    np.testing.assert_array_equal(ds.velocity_lid, [9, 10])
    np.testing.assert_allclose(ds.time, [0, 0.1, 0.2, 0.3])
    assert (float(ds.y[1]), float(ds.x[1]), ds.attrs["boundary_x"]) == (0.0625, 0.0625, "wall,wall")
    assert (ds.fluid == 1).all()


def test_a_cylinder_is_drawn_around_the_origin(tmp_path: Path) -> None:
    case(tmp_path / "case0000", CYLINDER)
    ds = CFDBench(paths=str(tmp_path / "case0000")).open()
    expected = (ds.x - 1) ** 2 + (ds.y - 1) ** 2 > 0.25**2
    np.testing.assert_array_equal(ds.fluid[0], expected.transpose("y", "x"))
    assert 0 < int((ds.fluid == 0).sum()) < 20
    assert (ds.attrs["boundary_x"], ds.attrs["boundary_y"]) == ("open,open", "wall,wall")


def test_a_dam_stands_on_the_floor(tmp_path: Path) -> None:
    case(tmp_path / "case0000", DAM)
    ds = CFDBench(paths=str(tmp_path / "case0000")).open()
    solid = ds.fluid[0].values == 0
    assert {*ds.y.values[solid.any(axis=1)]} == {0, 0.05}
    assert (ds.x.values[solid.any(axis=0)] >= 0.5).all()
    assert (ds.x.values[solid.any(axis=0)] < 0.75).all()


def test_cases_that_end_earlier_leave_frames_absent(tmp_path: Path) -> None:
    short = case(tmp_path / "cavity/case0000", CAVITY, frames=4)
    long = case(tmp_path / "cavity/case0001", CAVITY, frames=6)
    path = str(tmp_path / "cavity")
    ds = CFDBench(paths=path).open()
    np.testing.assert_array_equal(ds.present, np.arange(6) < [[4], [6]])
    np.testing.assert_array_equal(ds.velocity_x[0, :4], short["u"])
    np.testing.assert_array_equal(ds.velocity_x[1], long["u"])
    assert np.isnan(ds.velocity_x[0, 4:]).all()
    ds = CFDBench(paths=path, frames=5).open()
    np.testing.assert_array_equal(ds.present.sum("time"), [4, 5])
    np.testing.assert_array_equal(ds.velocity_x[1, ::-1], long["u"][4::-1])
    assert "present" not in CFDBench(paths=path, frames=3).open().coords


def test_cases_of_different_sizes_are_asked_about(tmp_path: Path) -> None:
    for i, width in enumerate((1.0, 2.0)):
        case(tmp_path / f"cavity/case{i:04d}", CAVITY | {"width": width})
    path = str(tmp_path / "cavity")
    with pytest.raises(
        ConfigError, match=r"domain: .*is 0\.5 by 1 m, .*case0001 0\.5 by 2 m; set domain: unit"
    ):
        CFDBench(paths=path).open()
    ds = CFDBench(paths=path, domain="unit").open()
    np.testing.assert_array_equal(ds.width, [1, 2])
    assert (float(ds.x[-1]), float(ds.y[-1])) == (15 / 16, 7 / 8)


def test_what_flows_is_asked_for(tmp_path: Path) -> None:
    settings = {key: value for key, value in CAVITY.items() if key != "vel_top"}
    case(tmp_path / "case0000", settings | {"vel_in": 1.0})
    with pytest.raises(ConfigError, match=r"problem: .*case0000 does not say which problem it is"):
        CFDBench(paths=str(tmp_path / "case0000")).open()
    ds = CFDBench(paths=str(tmp_path / "case0000"), problem="tube").open()
    assert (float(ds.velocity_inlet), ds.attrs["boundary_x"]) == (1, "open,open")


def test_broken_settings_and_missing_cases_are_named(tmp_path: Path) -> None:
    case(tmp_path / "case0000", CAVITY)
    (tmp_path / "case0000/case.json").write_text("{")
    with pytest.raises(DamagedFileError, match=r"case\.json: not JSON"):
        CFDBench(paths=str(tmp_path / "case0000")).open()
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingFileError, match=r"empty/case\.json: no such file"):
        CFDBench(paths=str(tmp_path / "empty")).open()
