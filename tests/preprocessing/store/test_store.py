from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorstore
import xarray as xr
import zarr
from analytic_source import Analytic, configuration

from pelagos.preprocessing.array_types import Float32s
from pelagos.preprocessing.build.build_config import BuildConfig
from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.errors import DamagedFileError, DataError, MissingFileError
from pelagos.preprocessing.store.manifest import verify
from pelagos.preprocessing.store.store import Store, open_reader, open_store
from pelagos.preprocessing.store.zarr_reader import ZarrReader
from tests.preprocessing.sharded_array import SHAPE, make_array

SOURCE = {"names": ["heating", "density", "velocity_x"], "static": "varying", "scalars": True}


# Points along each side and bytes of a chunk at most: frames, channels, rows, and rows that do not divide 11.
CUTS = [(8, 1 << 20), (8, 300), (8, 100), (11, 300)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return build(configuration(tmp_path, SOURCE, codec="blosc-lz4"))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return open_store(build(configuration(tmp_path_factory.mktemp("stores"), SOURCE)))


def test_channels_are_prognostic_then_forcing_then_diagnostic(store: Store) -> None:
    assert [variable.key for variable in store.variables] == ["velocity_x", "heating", "density"]
    assert [variable.units for variable in store.variables] == ["m s-1"] * 3
    source = Analytic(**SOURCE)
    expected = np.stack([source.values(variable.name) for variable in store.variables], axis=2)
    for i in range(store.num_trajectories):
        assert np.array_equal(store.read(i, 0, store.num_times), expected[i])
        assert np.array_equal(store.read(i, 2, 4), expected[i, 2:4])
        assert np.array_equal(store.static(i)[0], source.values("depth")[i, 0])
        assert store.scalars(i).tolist() == [i // 2 + 0.5]


def test_some_frames_are_those_that_are_read_one_by_one(store: Store) -> None:
    for frames in ([0, 2, 3], [1, 2], [4]):
        one_by_one = np.concatenate([store.read(3, frame, frame + 1) for frame in frames])
        assert np.array_equal(store.take(3, frames), one_by_one)


def test_times_count_from_the_first_frame(store: Store) -> None:
    assert store.times.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert (store.dt, store.time_units) == (0.25, "s")


def test_splits_are_masks_of_frames(store: Store) -> None:
    assert [store.splits[name][:, 0].sum() for name in ("train", "valid", "test")] == [4, 1, 1]
    assert store.splits["test"][5].all()


def test_xarray_opens_it_without_us(store: Store) -> None:
    ds = xr.open_zarr(store.path, chunks=None)
    assert ds["state"].dims == ("trajectory", "time", "channel", "y", "x")
    assert np.array_equal(ds["state"].sel(channel="heating").values, Analytic(**SOURCE).values("heating"))
    assert ds["trajectory"].values.tolist() == [100, 101, 102, 103, 104, 105]
    assert ds["split"].attrs["flag_meanings"] == "unused train valid test"
    assert ds.attrs["Conventions"].startswith("CF-")
    assert ds.attrs["license"] == "CC0-1.0"
    assert ds["params"].sel(param="viscosity").values.tolist() == store.scalar_values[:, 0].tolist()


def test_zarr_opens_it_with_and_without_consolidated_metadata(store: Store) -> None:
    consolidated: Any = zarr.open_consolidated(store.path, mode="r")
    plain: Any = zarr.open_group(store.path, mode="r", use_consolidated=False)
    assert np.array_equal(consolidated["state"][:], plain["state"][:])
    assert consolidated["stats/mean"][:].tolist() == plain["stats/mean"][:].tolist()
    assert plain["state"].attrs["channels"][1]["name"] == "heating"


@pytest.mark.parametrize("codec", ["none", "blosc-lz4"])
@pytest.mark.parametrize(("size", "largest"), CUTS)
def test_zarr_xarray_and_tensorstore_read_all_chunks_without_us(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, codec: str, size: int, largest: int
) -> None:
    monkeypatch.setattr("pelagos.preprocessing.build.partition._CHUNK", largest)
    source = SOURCE | {"size": size}
    path = build(configuration(tmp_path, source, codec=codec))
    expected = np.stack([Analytic(**source).values(v.name) for v in open_store(path).variables], axis=2)
    depth = Analytic(**source).values("depth")[:, :1]
    for name, values in {"state": expected, "static": depth}.items():
        kvstore = {"driver": "file", "path": str(path / name)}
        array = tensorstore.open({"driver": "zarr3", "kvstore": kvstore}).result()
        assert np.array_equal(array.read().result(), values)
        assert np.array_equal(zarr.open_array(path / name, mode="r")[:], values)
        assert np.array_equal(xr.open_zarr(path, chunks=None)[name].values, values)
    assert all(np.array_equal(open_store(path).read(n, 0, 5), expected[n]) for n in range(6))
    assert all(np.array_equal(open_store(path).static(n), depth[n]) for n in range(6))


def test_frames_of_a_quarter_degree_are_cut_along_latitudes(tmp_path: Path) -> None:
    x_HW = np.arange(721 * 1440, dtype=np.float32).reshape(721, 1440)
    fields = xr.Dataset(
        {
            name: (("time", "latitude", "longitude"), x_HW[None] + [[[n]], [[7]]])
            for n, name in enumerate("uv")
        },
        {
            "time": np.datetime64("2000-01-01", "ns") + np.arange(2) * np.timedelta64(6, "h"),
            "latitude": ("latitude", np.linspace(90, -90, 721), {"units": "degrees_north"}),
            "longitude": ("longitude", np.arange(1440) / 4, {"units": "degrees_east"}),
        },
    )
    fields.to_netcdf(tmp_path / "fields.nc", engine="h5netcdf")
    values = {
        "dataset": "quarter",
        "source": {"kind": "cf", "paths": str(tmp_path / "fields.nc")},
        "root": tmp_path,
        "splits": {"kind": "time", "train": (0, 2)},
        "codec": "blosc-lz4",
    }
    path = build(BuildConfig.model_validate(values))
    state = zarr.open_array(path / "state", mode="r")
    assert (state.chunks, state.shards) == ((1, 1, 1, 103, 1440), (1, 2, 2, 721, 1440))
    mask = zarr.open_array(path / "mask", mode="r")
    assert (mask.chunks, mask.shards) == ((1, 721, 1440), (2, 721, 1440))
    assert np.array_equal(open_store(path).read(0, 0, 2), state[0])
    assert np.array_equal(state[0], np.stack([[x_HW, x_HW + 1], [x_HW + 7, x_HW + 7]]))
    assert verify(path, sha256=True) == []


def test_opening_what_is_no_store_is_explained(path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"no such store; there are analytic-1\.zarr"):
        open_store(path.with_name("analytic-2.zarr"))
    path.with_name("other.zarr.building").mkdir()
    with pytest.raises(MissingFileError, match="not complete: run `pelagos build` again"):
        open_store(path.with_name("other.zarr"))
    with pytest.raises(DataError, match="not one that `pelagos build` has written"):
        open_store(path / "stats")
    with pytest.raises(DamagedFileError, match=r"zarr\.json: missing"):
        open_store(path.parent)
    (path / "split/c/0/0").unlink()
    with pytest.raises(DamagedFileError, match="split/c/0/0: missing; `pelagos repair`"):
        open_store(path)


def test_frames_beyond_the_end_are_refused(store: Store) -> None:
    with pytest.raises(IndexError, match="has 5 frames"):
        store.read(0, 3, 6)
    with pytest.raises(IndexError, match="shape"):
        store.read(6, 0, 1)


@pytest.mark.parametrize("chunk", [(2, 3), (4, 4)])
def test_other_chunks_are_read_through_zarr(tmp_path: Path, values: Float32s, chunk: tuple[int, int]) -> None:
    make_array(tmp_path / "a", "none", chunk=chunk)[:] = values
    reader, out = open_reader(tmp_path / "a"), np.empty(SHAPE[1:], np.float32)
    assert isinstance(reader, ZarrReader)
    reader.read_frames((4, 0), out)
    assert np.array_equal(out, values[4])


def test_other_codecs_are_read_through_zarr(
    tmp_path: Path, values: Float32s, caplog: pytest.LogCaptureFixture
) -> None:
    array = zarr.create_array(
        tmp_path / "a", shape=SHAPE, shards=(2, 7, 4, 6, 8), chunks=(1, 1, 4, 6, 8), dtype="float32"
    )
    array[:] = values
    reader = open_reader(tmp_path / "a")
    assert isinstance(reader, ZarrReader)
    assert "slower" in caplog.text
    assert "zstd" in caplog.text
    first, second = np.empty((1, 6, 8), np.float32), np.empty((2, 6, 8), np.float32)
    reader.read_frame((3, 5), [first, second])
    assert np.array_equal(np.concatenate([first, second]), values[3, 5, :3])
    out = np.empty((3, *SHAPE[2:]), np.float32)
    reader.read_frames((4, 2), out)
    assert np.array_equal(out, values[4, 2:5])
