import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tensorstore
import xarray as xr
import zarr
from analytic_source import Analytic, configuration

from pelagos.preprocessing.build.build_config import BuildConfig
from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.build.compare_stores import compare
from pelagos.preprocessing.build.group_writer import write_statistics
from pelagos.preprocessing.build.plan import make_plan
from pelagos.preprocessing.build.repair import repair
from pelagos.preprocessing.errors import DamagedFileError, DataError, MissingFileError
from pelagos.preprocessing.inspection.inspect_path import inspect
from pelagos.preprocessing.sources import convention
from pelagos.preprocessing.sources.formats.cf import CF
from pelagos.preprocessing.store.store import Store, open_store, verify

SOURCE = {"names": ["heating", "density", "velocity_x"], "static": "varying", "scalars": True}


CUTS = [(8, 1 << 20), (8, 300), (8, 100), (11, 300)]
"""Points along each side and bytes of a chunk at most: frames, channels, rows, and rows that do not divide 11."""


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
    consolidated = zarr.open_consolidated(store.path, mode="r")
    plain = zarr.open_group(store.path, mode="r", use_consolidated=False)
    assert np.array_equal(consolidated["state"][:], plain["state"][:])
    assert consolidated["stats/mean"][:].tolist() == plain["stats/mean"][:].tolist()
    assert plain["state"].attrs["channels"][1]["name"] == "heating"


@pytest.mark.parametrize("codec", ["none", "blosc-lz4"])
@pytest.mark.parametrize(("size", "largest"), CUTS)
def test_zarr_xarray_and_tensorstore_read_all_chunks_without_us(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, codec: str, size: int, largest: int
) -> None:
    monkeypatch.setattr("pelagos.preprocessing.build.plan._CHUNK", largest)
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


def test_a_large_mask_is_one_file_of_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pelagos.preprocessing.build.plan._CHUNK", 50)
    paths = {}
    for name, size in (("rows", 11), ("channels", 7)):
        with monkeypatch.context() as earlier:
            for version, cut in (("1", False), ("2", True)):
                earlier.setattr(
                    "pelagos.preprocessing.build.build_store.write_statistics",
                    partial(write_statistics, cut_mask=cut),
                )
                config = configuration(
                    tmp_path, {"size": size, "sea": 2}, dataset=name, version=version, missing="keep"
                )
                paths[name, version] = build(config)
        masks = [zarr.open_array(paths[name, version] / "mask", mode="r") for version in "12"]
        assert masks[0].shards is None
        assert masks[1].chunks == {"rows": (1, 4, 11), "channels": (1, 7, 7)}[name]
        for mask, version in zip(masks, "12", strict=True):
            path = paths[name, version]
            assert np.array_equal(mask[:], open_store(path).mask)
            assert np.array_equal(mask[:], masks[0][:])
            (path / "mask/c/0/0/0").write_bytes(b"torn")
            assert repair(path) == ["mask/c/0/0/0"]
            assert verify(path) == []
    assert not masks[0][:].all()


def test_to_xarray_is_in_the_convention_and_equal_to_the_source(store: Store) -> None:
    ds, source = store.to_xarray(), Analytic(**SOURCE).open()
    convention.check(ds)
    assert set(ds.data_vars) == set(source.data_vars)
    for name in source.data_vars:
        assert ds[name].attrs["role"] == source[name].attrs["role"]
        assert ds[name].attrs["units"] == source[name].attrs["units"]
        assert ds[name].dims == source[name].dims
        assert np.array_equal(ds[name].values, source[name].values.astype(ds[name].dtype))
    assert ds["time"].values.tolist() == source["time"].values.tolist()


def test_levels_and_dates_come_back(tmp_path: Path) -> None:
    source = {"levels": [850, 500], "dates": True, "latlon": True, "static": "common"}
    store = open_store(build(configuration(tmp_path, source)))
    assert [variable.key for variable in store.variables][:2] == ["velocity_x@850", "velocity_x@500"]
    assert (store.dt, store.time_units) == (6 * 3600, "s")
    ds, original = store.to_xarray(), Analytic(**source).open()
    convention.check(ds)
    assert ds["velocity_y"].dims == ("trajectory", "time", "level", "y", "x")
    assert np.array_equal(ds["velocity_y"].values, original["velocity_y"].values)
    assert np.array_equal(ds["time"].values, original["time"].values)
    assert ds["level"].values.tolist() == [850, 500]
    assert ds["depth"].dims == ("y", "x")
    assert np.array_equal(store.static(0), store.static(5))


def test_to_xarray_undoes_transforms_where_it_is_read(tmp_path: Path) -> None:
    source = {"levels": [850, 500], "static": "varying"}
    changes = {
        "convert": {name: {"units": "m s-1", "offset": 30} for name in ("velocity_x", "depth")},
        "transforms": {"velocity_x": {"scale": 3}, "depth": {"scale": 2}},
    }
    store = open_store(build(configuration(tmp_path, source, **changes)))
    ds, original = store.to_xarray(), Analytic(**source).open()
    convention.check(ds)
    assert ds["velocity_x"].attrs["units"] == "m s-1"
    for name in ("velocity_x", "depth"):
        assert ds[name].dtype == np.float32
        assert ds[name].values == pytest.approx(original[name].values + 30, rel=1e-6)
    part = {"trajectory": [4, 1], "time": slice(1, 4, 2), "x": 3}
    expected = original["velocity_x"].isel(part).values + 30
    assert ds["velocity_x"].isel(part).values == pytest.approx(expected, rel=1e-6)
    assert store.stats.maximum[0] < np.log1p(expected.max() / 3) + 1, "statistics are of what is stored"
    text = inspect(store.path)
    assert "velocity_x@850 is stored, and measured above, as ln(1 + velocity_x / 3 m s-1)" in text


def test_a_new_store_is_whole(path: Path) -> None:
    assert verify(path, sha256=True) == []
    assert repair(path) == []


@pytest.mark.parametrize("codec", ["none", "blosc-lz4"])
@pytest.mark.parametrize(("size", "largest"), CUTS[1:])
def test_stores_of_small_chunks_are_compared_verified_and_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, codec: str, size: int, largest: int
) -> None:
    source = SOURCE | {"size": size}
    whole = build(configuration(tmp_path, source, version="whole"))
    monkeypatch.setattr("pelagos.preprocessing.build.plan._CHUNK", largest)
    path = build(configuration(tmp_path, source, codec=codec))
    assert compare(path, whole).same
    assert verify(path, sha256=True) == []
    shutil.rmtree(path / "stats")
    (path / "state/c/1/0/0/0/0").unlink()
    static = path / "static/c/0/0/0/0"
    static.write_bytes(static.read_bytes()[:-40])
    assert {"state/c/1/0/0/0/0", "static/c/0/0/0/0"} < set(repair(path))
    assert verify(path, sha256=True) == []


def test_a_store_from_before_rows_were_cut_is_read_and_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pelagos.preprocessing.build.plan._CHUNK", 100)
    with monkeypatch.context() as earlier:
        earlier.setattr(
            "pelagos.preprocessing.build.build_store.make_plan", partial(make_plan, cut_rows=False)
        )
        path = build(configuration(tmp_path, SOURCE, codec="blosc-lz4"))
    assert zarr.open_array(path / "state", mode="r").chunks == (1, 1, 1, 8, 8)
    assert zarr.open_array(path / "static", mode="r").chunks == (1, 1, 8, 8)
    assert np.array_equal(open_store(path).read(2, 0, 5)[:, 0], Analytic(**SOURCE).values("velocity_x")[2])
    for name in ("state/c/1/0/0/0/0", "static/c/0/0/0/0", "state/zarr.json"):
        (path / name).unlink()
    assert len(repair(path)) == 3
    assert verify(path, sha256=True) == []


@pytest.mark.parametrize("place", ["shard", "static", "stats/mean/c/0", "zarr.json", "split/c/0/0"])
def test_a_flipped_bit_is_found_and_exactly_that_file_is_mended(path: Path, place: str) -> None:
    places = {"shard": "state/c/2/0/0/0/0", "static": "static/c/1/0/0/0"}
    name = places.get(place, place)
    before = {file: (file.stat().st_ino, file.read_bytes()) for file in path.rglob("*") if file.is_file()}
    content = bytearray((path / name).read_bytes())
    content[len(content) // 2] ^= 4
    (path / name).write_bytes(content)
    (damage,) = verify(path)
    assert (damage.path, damage.kind) == (name, "checksum")
    assert "CRC-32C" in str(damage)
    assert repair(path) == [name]
    assert verify(path, sha256=True) == []
    after = {file: (file.stat().st_ino, file.read_bytes()) for file in path.rglob("*") if file.is_file()}
    assert {file: content for file, (_, content) in after.items()} == {f: c for f, (_, c) in before.items()}
    assert [file for file in after if after[file][0] != before[file][0]] == [path / name]


def test_a_flipped_byte_in_any_shard_is_found_and_mended(path: Path) -> None:
    rng = np.random.default_rng(0)
    shards = sorted(file for file in path.glob("st*/c/**/*") if file.is_file())
    assert len(shards) > 6
    whole = [shard.read_bytes() for shard in shards]
    for shard, content in zip(shards, whole, strict=True):
        place = int(rng.integers(len(content)))
        shard.write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
    names = [str(shard.relative_to(path)) for shard in shards]
    assert [damage.path for damage in verify(path)] == names
    assert repair(path) == names
    assert [shard.read_bytes() for shard in shards] == whole


def test_lost_and_shortened_files_are_found_and_mended(path: Path) -> None:
    shutil.rmtree(path / "state" / "c" / "1")
    shutil.rmtree(path / "mask")
    short = path / "static/c/0/0/0/0"
    short.write_bytes(short.read_bytes()[:-1])
    (path / "state" / "junk").write_bytes(b"")
    kinds = {damage.path: damage.kind for damage in verify(path)}
    assert kinds.pop("state/junk") == "unexpected"
    assert kinds == {
        "mask/c/0/0/0": "missing",
        "mask/zarr.json": "missing",
        "state/c/1/0/0/0/0": "missing",
        "static/c/0/0/0/0": "size",
    }
    assert repair(path) == sorted(kinds)
    assert [damage.path for damage in verify(path)] == ["state/junk"]


@pytest.mark.parametrize("static", ["none", "common"])
def test_statistics_are_mended_from_the_shards(tmp_path: Path, static: str) -> None:
    path = build(configuration(tmp_path, {"static": static, "times": 9}, shard_bytes=1024))
    shutil.rmtree(path / "stats")
    mended = repair(path)
    assert all(name.startswith("stats/") for name in mended)
    assert verify(path, sha256=True) == []


def test_a_damaged_manifest_is_found_and_cannot_be_repaired(path: Path) -> None:
    manifest = path / "_build" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"bytes": 1', '"bytes": 2', 1))
    (damage,) = verify(path)
    assert (damage.path, damage.kind) == ("_build/manifest.json", "manifest")
    assert "fails its own checksum" in damage.detail
    with pytest.raises(DamagedFileError, match="with overwrite=true"):
        repair(path)


def test_repair_from_other_data_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = build(configuration(tmp_path, SOURCE))
    (path / "state/c/0/0/0/0/0").unlink()
    monkeypatch.setattr(Analytic, "values", lambda self, name: np.zeros((6, 5, 8, 8), np.float32))
    with pytest.raises(DataError, match="cannot be repaired: built again, it differs"):
        repair(path)


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


def test_inspect_lists_the_stores_of_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [build(configuration(tmp_path, SOURCE, dataset=name)) for name in ("whole", "torn", "half")]
    (paths[1] / "split/c/0/0").unlink()
    with pytest.raises(KeyboardInterrupt):
        build(configuration(tmp_path, SOURCE, dataset="half", overwrite=True, version="2"), interrupted)
    text = inspect(tmp_path)
    assert f"{paths[0]}\n    whole 1: 6 trajectories of 5 frames, 3 channels, 8 x 8 points\n" in text
    assert f"{paths[1]}\n    {paths[1]}/split/c/0/0: missing; `pelagos repair` mends the store\n" in text
    assert f"{paths[2].with_name('half-2.zarr')}\n    no such store; its build is not complete" in text
    assert "pelagos pretrain CONFIG data.0.path=STORE" in text
    assert inspect(paths[0].parent).count("whole-1.zarr\n") == 1
    monkeypatch.chdir(tmp_path)
    assert inspect(".") == text.replace(f"{tmp_path}/", "").replace(f"{tmp_path} holds", ". holds")


def interrupted(done: int, num: int) -> None:
    if done:
        raise KeyboardInterrupt


def test_a_store_is_not_taken_for_an_archive(path: Path) -> None:
    with pytest.raises(DataError, match=f"{path}: a store of Pelagos: train on it as data.0.path={path}, or"):
        CF(paths=(str(path),)).open()


def test_inspect_tells_what_is_inside(store: Store) -> None:
    text = inspect(store.path)
    assert "6 trajectories of 5 frames, 3 channels, 8 x 8 points" in text
    assert "0.25 s" in text
    assert "y wall, wall; x periodic, periodic" in text
    assert "viscosity" in text
    for line in ("velocity_x", "heating", "density", "depth"):
        assert line in text
    assert "4 trajectories, 20 frames" in text
