"""Archives of Zarr on servers: what is read of them is what is read of the folder."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numcodecs
import numpy as np
import pytest
import xarray as xr
import yaml
import zarr
from pydantic import ValidationError
from zarr.errors import ZarrUserWarning

from pelagos.preprocessing.build.build_config import BuildConfig
from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.build.repair import repair
from pelagos.preprocessing.errors import DamagedFileError, DataError, MissingFileError
from pelagos.preprocessing.files import location
from pelagos.preprocessing.inspection.inspect_path import inspect
from pelagos.preprocessing.sources.file_source import FileSource
from pelagos.preprocessing.sources.formats.anemoi import Anemoi
from pelagos.preprocessing.sources.formats.cf import CF
from pelagos.preprocessing.sources.formats.credit import CREDIT
from pelagos.preprocessing.sources.formats.pdearena import PDEArena
from pelagos.preprocessing.sources.formats.pdebench import PDEBench
from pelagos.preprocessing.sources.formats.weatherbench import WeatherBench
from pelagos.preprocessing.store.manifest import read_manifest, verify
from pelagos.preprocessing.store.store import open_store
from tests.preprocessing.range_server import Site, serving
from tests.preprocessing.sources.formats import (
    test_anemoi,
    test_credit,
    test_pdearena,
    test_weatherbench,
    weather_archive,
)


def era5(folder: Path) -> FileSource:
    return WeatherBench(paths=test_weatherbench.save(test_weatherbench.coarse(), folder / "era5-8x5.zarr"))


def projected(folder: Path) -> FileSource:
    ds = weather_archive.weather("t", "q")
    with pytest.warns(ZarrUserWarning, match="not part in the Zarr format 3 specification"):
        ds.to_zarr(folder / "weather.zarr", zarr_format=3, consolidated=True)
    return CF(paths=str(folder / "weather.zarr"))


def years(folder: Path) -> FileSource:
    paths = [
        test_credit.save(test_credit.year_of_credit(year), folder / f"y_{year}.zarr") for year in (2018, 2019)
    ]
    return CREDIT(paths=tuple(paths))


def anemoi(folder: Path) -> FileSource:
    path = test_anemoi.save(folder / "an.zarr", test_anemoi.DATA)
    zarr.consolidate_metadata(path, zarr_format=2)
    return Anemoi(paths=path)


def shallow_water(folder: Path) -> FileSource:
    test_pdearena.water(2).to_zarr(folder / "water.zarr", consolidated=True, zarr_format=2)
    return PDEArena(paths=str(folder / "water.zarr"))


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(location, "RETRY_DELAYS", (0.01, 0.01))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with serving(tmp_path) as served:
        yield served


def there(source: FileSource, prefix: str) -> FileSource:
    """The same source under another place."""
    return source.model_copy(update={"paths": tuple(f"{prefix}/{Path(one).name}" for one in source.paths)})


@pytest.mark.parametrize("make", [era5, projected, years, anemoi, shallow_water])
def test_archives_on_servers_are_those_of_the_folder(tmp_path: Path, site: Site, make: Any) -> None:
    here = make(tmp_path)
    fsspec.filesystem("memory").put(f"{tmp_path}/", f"/{tmp_path.name}/", recursive=True)
    for prefix in (site.url, f"memory://{tmp_path.name}"):
        remote = there(here, prefix)
        ds, expected = remote.open(), here.open()
        assert json.loads(ds.attrs.pop("sources")) == list(remote.paths)
        del expected.attrs["sources"]
        ds.attrs["dataset"] = expected.attrs["dataset"]
        if "file" in expected.coords:  # which differs, as `sources` does, by where the files are
            names = [[str(one).rpartition("/")[2] for one in each["file"].values] for each in (ds, expected)]
            assert names[0] == names[1]
            ds, expected = ds.drop_vars("file"), expected.drop_vars("file")
        xr.testing.assert_identical(ds.compute(), expected.compute())
        assert remote.identifier() == here.identifier() or len(here.paths) > 1


def test_opening_reads_no_field_and_a_slice_only_its_chunks(tmp_path: Path, site: Site) -> None:
    ds = there(era5(tmp_path), site.url).open()
    assert not [name for name, _ in site.asked if "/2m_temperature/0" in name]
    ds["2m_temperature"].isel(time=0).load()
    assert [name for name, _ in site.asked if "/temperature/0" in name] == []


def test_a_build_from_a_server_has_the_shards_of_one_from_the_folder(tmp_path: Path, site: Site) -> None:
    here = era5(tmp_path)
    stores = []
    for version, source in (("here", here), ("there", there(here, site.url))):
        values = {"dataset": "era5", "version": version, "source": source, "root": tmp_path / "stores"}
        stores.append(build(BuildConfig.model_validate(values)))
    shards = [
        {
            str(file.relative_to(store)): file.read_bytes()
            for file in store.glob("st*/c/**/*")
            if file.is_file()
        }
        for store in stores
    ]
    assert shards[0] == shards[1]
    assert verify(stores[1]) == []
    (record,) = read_manifest(stores[1]).sources
    assert (record["path"], record["bytes"], record["sha256"]) == (f"{site.url}/era5-8x5.zarr", -1, "")
    assert len(record["metadata_sha256"]) == 64
    assert "not local, metadata's sha256" in inspect(stores[1])
    shard = stores[1] / "state/c/0/0/0/0/0"
    content = shard.read_bytes()
    shard.write_bytes(b"x" + content[1:])
    assert repair(stores[1]) == ["state/c/0/0/0/0/0"]
    assert shard.read_bytes() == content


@pytest.mark.parametrize("separator", [".", "/"])
def test_chunks_that_a_server_does_not_have_are_no_zeros(tmp_path: Path, site: Site, separator: str) -> None:
    made = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
    for name, values, units in (
        ("time", np.arange(4), "hours since 2020-01-01"),
        ("lat", np.linspace(60, 50, 5), "degrees_north"),
        ("lon", np.arange(6) * 2.5, "degrees_east"),
    ):
        made.create_array(name, data=values).attrs.update({"_ARRAY_DIMENSIONS": [name], "units": units})
    encoding: Any = {"name": "v2", "separator": separator}
    t = made.create_array("t", data=np.ones((4, 5, 6), "f4"), chunks=(1, 5, 6), chunk_key_encoding=encoding)
    t.attrs["_ARRAY_DIMENSIONS"] = ["time", "lat", "lon"]
    zarr.consolidate_metadata(tmp_path / "a.zarr", zarr_format=2)
    (tmp_path / "a.zarr/t" / separator.join("200")).unlink()
    ds = CF(paths=f"{site.url}/a.zarr").open()
    assert (ds.t[0, :2] == 1).all()
    with pytest.raises(DamagedFileError, match="this chunk is not on the server; complete the archive"):
        ds.t[0, 2].load()
    filled = CF(paths=f"{site.url}/a.zarr", absent="fill").open().t[0].load()
    assert (filled[2] == 0).all()
    missing = CF(paths=f"{site.url}/a.zarr", absent="missing").open().t[0].load()
    assert np.isnan(missing[2]).all()
    assert (missing[3] == 1).all()


def test_a_server_that_dies_while_a_store_is_built_leaves_what_is_finished(
    tmp_path: Path, site: Site
) -> None:
    name = "2m_temperature"
    test_weatherbench.save(
        test_weatherbench.coarse(), tmp_path / "era5.zarr", encoding={name: {"chunks": (1, 8, 5)}}
    )
    source = WeatherBench(paths=f"{site.url}/era5.zarr", variables=(name,))
    values = {"dataset": "era5", "source": source, "root": tmp_path / "stores", "shard_bytes": 200}
    config = BuildConfig.model_validate(values)
    site.failing = "2m_temperature/2.0.0"
    with pytest.raises(DamagedFileError, match=r"2m_temperature/2\.0\.0: the server does not send it"):
        build(config)
    growing = config.path.with_name(f"{config.path.name}.building")
    kept = {file: file.stat().st_ino for file in growing.glob("state/c/**/*") if file.is_file()}
    assert kept
    site.failing = ""
    path = build(config)
    assert verify(path) == []
    for file, inode in kept.items():
        assert (path / file.relative_to(growing)).stat().st_ino == inode
    assert open_store(path).num_times == 4


def test_other_metadata_on_the_server_are_another_archive(tmp_path: Path, site: Site) -> None:
    here = era5(tmp_path)
    values = {"dataset": "era5", "source": there(here, site.url), "root": tmp_path / "stores"}
    config = BuildConfig.model_validate(values | {"part": "1/2", "shard_bytes": 500})
    build(config)
    test_weatherbench.coarse().to_zarr(tmp_path / "era5-8x5.zarr", mode="a", zarr_format=2, consolidated=True)
    file = tmp_path / "era5-8x5.zarr/.zmetadata"
    file.write_text(file.read_text().replace('"units": "K"', '"units":  "K"'))
    with pytest.raises(DataError, match=r"era5-8x5\.zarr has changed since"):
        build(config.model_copy(update={"part": "2/2"}))


def test_inspect_proposes_a_configuration_of_an_archive_on_a_server(tmp_path: Path, site: Site) -> None:
    text = inspect(there(era5(tmp_path), site.url).paths[0])
    assert "certain weatherbench" in text
    values = yaml.safe_load(text) | {"root": tmp_path / "stores"}
    assert values.pop("command") == "build"
    assert values["dataset"] == "era5-8x5"
    assert verify(build(BuildConfig.model_validate(values))) == []


def test_a_chunk_cut_short_on_the_server_is_found(tmp_path: Path, site: Site) -> None:
    ds = test_weatherbench.coarse()
    encoding = {"2m_temperature": {"compressors": numcodecs.Blosc("lz4")}}
    path = Path(test_weatherbench.save(ds, tmp_path / "era5.zarr", encoding=encoding))
    remote = WeatherBench(paths=f"{site.url}/era5.zarr", variables=("2m_temperature",)).open()
    chunk = path / "2m_temperature/0.0.0"
    content = chunk.read_bytes()
    chunk.write_bytes(content[: len(content) // 2])
    with pytest.raises(DamagedFileError, match=rf"0\.0\.0: has {len(content) // 2} of {len(content)} bytes"):
        remote.compute()
    chunk.write_bytes(content)
    assert np.array_equal(remote["2m_temperature"][0, 0].values, ds["2m_temperature"][0].values.T)


def test_what_cannot_be_read_from_a_server_is_explained(tmp_path: Path, site: Site) -> None:
    with pytest.raises(MissingFileError, match=r"wind\.nc: no Zarr group is there; other files have to be"):
        CF(paths=f"{site.url}/wind.nc").open()
    with pytest.raises(DataError, match=r"flow\.hdf5: this format is read from files on this machine only"):
        PDEBench(paths=f"{site.url}/flow.hdf5").open()
    with pytest.raises(DataError, match="patterns work for files on this machine only; list the URLs"):
        CREDIT(paths="s3://bucket/*.zarr").open()
    with pytest.raises(ValidationError, match="unknown protocol 'gcp'"):
        CREDIT(paths="gcp://bucket/a.zarr")
    here = projected(tmp_path)
    shutil.copytree(tmp_path / "weather.zarr", tmp_path / "unlisted.zarr")
    root = tmp_path / "unlisted.zarr/zarr.json"
    held = json.loads(root.read_text())
    del held["consolidated_metadata"]
    root.write_text(json.dumps(held))
    with pytest.raises(DataError, match="a server that cannot list them needs consolidated metadata"):
        there(here, site.url).model_copy(update={"paths": (f"{site.url}/unlisted.zarr",)}).open()
