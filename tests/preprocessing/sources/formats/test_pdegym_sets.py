"""PDEGym's table: channels, times and axes of every set are where the table says."""

from pathlib import Path

import numpy as np
import pytest
import zarr

from pelagos.preprocessing.build.build_config import BuildConfig
from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.sources.formats.pdegym import PDEGym
from pelagos.preprocessing.sources.formats.pdegym_sets import SETS
from pelagos.preprocessing.store.store import open_store
from tests.preprocessing.sources.formats.pdegym_archive import store, values


@pytest.mark.parametrize(
    "name", [name for name in SETS if name not in ("SE-AF", "Poisson-Gauss", "Helmholtz")]
)
def test_channels_of_every_set_are_where_the_table_says(name: str, tmp_path: Path) -> None:
    layout = SETS[name]
    channels = (len(layout.channels),) if len(layout.channels) > 1 else ()
    array = values(3, 5, *channels, 4, 6)
    static = {key: values(3, 4, 6) for key in layout.static}
    ds = PDEGym(paths=str(store(tmp_path / "a.nc", **{layout.key: array}, **static)), dataset=name).open()
    if layout.axes == "xy":
        array = array.swapaxes(-1, -2)
    for i, variable in enumerate(layout.channels):
        np.testing.assert_array_equal(ds[variable], array[:, :, i] if channels else array)
        assert ds[variable].attrs["role"] == "prognostic"
    for key, variable in layout.static.items():
        np.testing.assert_array_equal(ds[variable], static[key])
        assert ds[variable].attrs["role"] == "static"
    np.testing.assert_allclose(ds.time, np.arange(5) * layout.dt, rtol=1e-14)
    assert ds.attrs["boundary_x"] == ds.attrs["boundary_y"] == f"{layout.boundary},{layout.boundary}"
    assert ds.attrs["license"] == "CC BY-NC 4.0"


@pytest.mark.parametrize(
    ("name", "frames", "end"), [("NS-BB", 21, 1), ("Wave-Gauss", 16, 1), ("GCE-RT", 11, 5)]
)
def test_the_last_frame_of_a_set_is_at_its_final_time(
    name: str, frames: int, end: float, tmp_path: Path
) -> None:
    layout = SETS[name]
    shape = (1, frames, len(layout.channels), 4, 4) if len(layout.channels) > 1 else (1, frames, 4, 4)
    static = {key: values(1, 4, 4) for key in layout.static}
    path = store(tmp_path / "a.nc", **{layout.key: values(*shape)}, **static)
    assert PDEGym(paths=str(path), dataset=name).open().time[-1] == pytest.approx(end)


def test_the_transposed_set_comes_out_like_the_others(tmp_path: Path) -> None:
    y_x = values(1, 2, 2, 6, 4)
    plain = PDEGym(paths=str(store(tmp_path / "bb.nc", velocity=y_x)), dataset="NS-BB").open()
    turned = PDEGym(
        paths=str(store(tmp_path / "sl.nc", velocity=y_x.swapaxes(-1, -2))), dataset="NS-SL"
    ).open()
    for name in ("velocity_x", "velocity_y"):
        np.testing.assert_array_equal(plain[name], turned[name])


def test_sets_released_without_their_last_channel_are_read(tmp_path: Path) -> None:
    gas = values(2, 3, 4, 4, 4)
    ds = PDEGym(paths=str(store(tmp_path / "a.nc", data=gas)), dataset="CE-RP").open()
    assert list(ds) == ["density", "velocity_x", "velocity_y", "pressure"]
    assert ds.pressure.attrs["poseidon_offset"] == "0.215"


def test_what_poseidon_subtracts_from_the_pressure_is_kept_in_the_store(tmp_path: Path) -> None:
    gas = values(2, 3, 4, 4, 4)
    path = store(tmp_path / "a.nc", data=gas)
    source = {"kind": "pdegym", "paths": str(path), "dataset": "CE-KH"}
    config = {"dataset": "gas", "source": source, "root": tmp_path}
    shifted = {"version": "2", "convert": {"pressure": {"units": "1", "offset": -1.0}}}
    for changes, kept, expected in (({}, "1.0", gas[:, :, 3]), (shifted, None, gas[:, :, 3] - 1)):
        built = open_store(build(BuildConfig.model_validate(config | changes)))
        channels = zarr.open_array(built.path / "state", mode="r").attrs["channels"]
        assert isinstance(channels, list)
        assert channels[3].get("poseidon_offset") == kept
        np.testing.assert_allclose(built.read(1, 0, 3)[:, 3], expected[1], rtol=1e-6)
