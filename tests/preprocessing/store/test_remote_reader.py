"""Stores on servers: the same samples as from the folder, few requests, and patience."""

import logging
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Barrier
from typing import Any

import fsspec
import numpy as np
import pytest
import torch
import zarr
from analytic_source import configuration
from pydantic import ValidationError

from pelagos.preprocessing.build.build_config import BuildConfig
from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.build.compare_stores import compare
from pelagos.preprocessing.build.repair import repair
from pelagos.preprocessing.errors import ConfigError, DamagedFileError, DataError, MissingFileError
from pelagos.preprocessing.files import location
from pelagos.preprocessing.files.location import ByteRange, Url, fetch, locate
from pelagos.preprocessing.inspection.inspect_path import inspect
from pelagos.preprocessing.loading.loader import Loader
from pelagos.preprocessing.samples.dataset import Dataset, DatasetConfig
from pelagos.preprocessing.samples.mixture import Mixture, Sweep
from pelagos.preprocessing.samples.window_sampling import RolloutSampling
from pelagos.preprocessing.store.manifest import verify
from pelagos.preprocessing.store.store import open_store
from pelagos.preprocessing.store.xarray_view import xarray_view
from tests.preprocessing.range_server import Site, serving

RICH = {"names": ["heating", "density", "velocity_x", "velocity_y"], "static": "varying", "scalars": True}


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries follow each other at once."""
    monkeypatch.setattr(location, "RETRY_DELAYS", (0.01, 0.01, 0.01))


Build = Callable[..., Path]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Builds a store, to be read only, or gives the one that was built from the same."""
    stores: dict[str, Path] = {}

    def store(source: dict[str, Any], **options: Any) -> Path:
        key = repr((source, options))
        if key not in stores:
            stores[key] = build(configuration(tmp_path_factory.mktemp("built"), source, **options))
        return stores[key]

    return store


@pytest.fixture
def path(tmp_path: Path, built: Build) -> Path:
    """A store of this test alone."""
    made = built(RICH, codec="blosc-lz4")
    return Path(shutil.copytree(made, tmp_path / made.parent.name / made.name))


@pytest.fixture
def site(path: Path) -> Iterator[Site]:
    with serving(path.parent) as served:
        yield served


def there(site: Site, path: Path) -> str:
    return f"{site.url}/{path.name}"


def in_memory(path: Path) -> str:
    """The URL of a copy in fsspec's memory."""
    url = f"memory://{path.parents[1].name}/{path.name}"
    fsspec.filesystem("memory").put(str(path), url.removeprefix("memory:/"), recursive=True)
    return url


def assert_same(one: Dataset, other: Dataset) -> None:
    assert one.num_samples == other.num_samples
    ours, theirs = (dataset.batch(np.arange(one.num_samples)) for dataset in (one, other))
    for name in ("inputs", "targets", "mask", "forcings", "lead_time", "scalars", "index"):
        assert torch.equal(getattr(ours, name), getattr(theirs, name)), name
    assert str(one.layout) == str(other.layout)


@pytest.mark.parametrize("codec", ["none", "blosc-lz4"])
@pytest.mark.parametrize(
    ("source", "options"),
    [
        (RICH, {}),
        (RICH, {"pool": 2}),
        (RICH, {"sampling": RolloutSampling(steps=3)}),
        ({"static": "common", "levels": [850, 500], "dates": True, "latlon": True}, {}),
        ({"times": 1, "names": ["density"], "static": "varying"}, {}),
    ],
)
def test_samples_are_those_of_the_folder(
    built: Build, codec: str, source: dict[str, Any], options: dict[str, Any]
) -> None:
    path = built(source, codec=codec)
    here = DatasetConfig(path=path, **options).open()
    with serving(path.parent) as site:
        assert_same(DatasetConfig(path=there(site, path), **options).open(), here)
    assert_same(DatasetConfig(path=in_memory(path), **options).open(), here)
    assert_same(DatasetConfig(path=path.as_uri(), **options).open(), here)


def test_samples_in_sixteen_bits_are_those_of_the_folder(tmp_path: Path) -> None:
    source = {"names": ["velocity_x", "heating"], "static": "common"}
    path = build(configuration(tmp_path, source, dtype="float16"))
    assert_same(DatasetConfig(path=in_memory(path)).open(), DatasetConfig(path=path).open())


@pytest.mark.parametrize("codec", ["none", "blosc-lz4"])
@pytest.mark.parametrize(
    ("size", "largest", "chunk"), [(8, 300, (1, 8, 8)), (8, 100, (1, 2, 8)), (11, 300, (1, 6, 11))]
)
def test_chunks_of_one_frame_may_be_several(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    built: Build,
    codec: str,
    size: int,
    largest: int,
    chunk: tuple[int, int, int],
) -> None:
    source = RICH | {"size": size}
    whole = built(source, version="whole", shard_bytes=10_000)
    monkeypatch.setattr("pelagos.preprocessing.build.partition._CHUNK", largest)
    path = build(configuration(tmp_path, source, codec=codec, shard_bytes=10_000))
    assert zarr.open_array(path / "state", mode="r").chunks == (1, 1, *chunk)
    copy = in_memory(path)
    for options in ({}, {"pool": 2}, {"sampling": RolloutSampling(steps=3)}):
        here = DatasetConfig(path=path, **options).open()
        assert_same(here, DatasetConfig(path=whole, **options).open())
        assert_same(DatasetConfig(path=copy, **options).open(), here)


@pytest.mark.parametrize("processes", [False, True])
def test_a_loader_over_http_gives_the_batches_of_the_folder(path: Path, site: Site, processes: bool) -> None:
    loaders = [
        Loader(
            Mixture([DatasetConfig(path=place).open()], batch_size=8, micro_batch=4),
            num_steps=5,
            processes=afar,
        )
        for place, afar in ((path, False), (there(site, path), processes))
    ]
    for ours, theirs in zip(*loaders, strict=True):
        assert torch.equal(ours.inputs, theirs.inputs)
        assert torch.equal(ours.targets, theirs.targets)


def test_all_that_a_store_tells_is_the_same(path: Path, site: Site) -> None:
    url = there(site, path)
    assert inspect(url) == inspect(path)
    assert compare(path, url).same
    assert verify(Url(url), sha256=True) == []
    one, other = (xarray_view(open_store(place)) for place in (path, url))
    one.attrs["sources"] = other.attrs["sources"] = ""
    assert one.identical(other)


def test_opening_takes_few_round_trips(path: Path, site: Site) -> None:
    open_store(there(site, path))
    twice = {name for name in site.asked if site.asked.count(name) > 1}
    assert twice <= {(f"{path.name}/zarr.json", "")}
    assert not any(name.startswith(f"{path.name}/state/c") for name, _ in site.asked)


def test_frames_of_a_batch_are_asked_for_side_by_side(path: Path, site: Site) -> None:
    dataset = DatasetConfig(path=there(site, path)).open()
    samples = np.array([0, 10, 20])  # of three trajectories in three shards, frames 0 and 1
    dataset.batch(samples)
    site.together = Barrier(
        3
    )  # no answer before all three have been asked for, of state and of static fields
    dataset.batch(samples)


@pytest.mark.parametrize("options", [{}, {"pool": 2}])
def test_a_trajectory_is_one_request(tmp_path: Path, options: dict[str, Any]) -> None:
    path = build(configuration(tmp_path, {}, shard_bytes=1 << 20))
    with serving(path.parent) as site:
        url = there(site, path)
        dataset = DatasetConfig(path=url, sampling=RolloutSampling(steps=4), **options).open()
        dataset.batch(np.array([0]))
        del site.asked[:]
        dataset.batch(np.array([1]))
        length = 5 * 2 * 4 * 8 * 8
        assert site.asked == [(f"{path.name}/state/c/0/0/0/0/0", f"bytes={length}-{2 * length - 1}")]
        assert np.array_equal(open_store(url).read(3, 1, 4), open_store(path).read(3, 1, 4))
        assert np.array_equal(open_store(url).take(3, [0, 2]), open_store(path).take(3, [0, 2]))
        if options:
            del site.asked[:]
            dataset.batch(np.array([0, 1]))
            assert site.asked == [], "both are in the pool"


def test_other_codecs_are_read_through_zarr(path: Path, site: Site, caplog: pytest.LogCaptureFixture) -> None:
    whole = open_store(path).read(2, 0, 5)
    shutil.rmtree(path / "state")
    array = zarr.create_array(
        path / "state",
        shape=(6, 5, 4, 8, 8),
        chunks=(1, 5, 4, 8, 8),
        dtype="float32",
        compressors=zarr.codecs.ZstdCodec(),
    )
    array[2] = whole
    with pytest.raises(
        DamagedFileError, match=r"state/zarr\.json: .* If another tool has rewritten it on purpose"
    ):
        open_store(there(site, path))
    store = open_store(there(site, path), verify="none")
    assert "is read through zarr-python" in caplog.text
    assert np.array_equal(store.read(2, 0, 5), whole)
    site.failures = 2
    assert np.array_equal(store.read(2, 0, 5), whole)
    site.kill()
    with pytest.raises(
        DamagedFileError, match=r"state/c/2/0/0/0/0: the server does not send it, tried 4 times"
    ):
        store.read(2, 0, 5)


def test_a_server_that_is_busy_is_asked_again(
    path: Path, site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    store = open_store(there(site, path))
    site.failures = 3
    with caplog.at_level(logging.WARNING):
        values = store.read(1, 0, 5)
    assert np.array_equal(values, open_store(path).read(1, 0, 5))
    assert "503" in caplog.text
    assert "trying again" in caplog.text


def test_a_server_that_stays_busy_is_an_error_that_says_where(path: Path, site: Site) -> None:
    store = open_store(there(site, path))
    store.read(1, 0, 1)
    site.failures = 1000
    where = r"analytic-1\.zarr/state/c/1/0/0/0/0, bytes \d+ to \d+"
    with pytest.raises(DamagedFileError, match=f"{where}: the server does not send it, tried 4 times: 503"):
        store.read(1, 1, 3)
    assert site.failures == 1000 - 4


def test_a_server_that_dies_ends_the_batches_with_an_error(path: Path, site: Site) -> None:
    order = Sweep([DatasetConfig(path=there(site, path)).open()], micro_batch=4)
    batches = iter(Loader(order, threads=1, depth=2))
    next(batches)
    site.kill()
    with pytest.raises(DamagedFileError, match=r"127\.0\.0\.1.*tried 4 times"):
        list(batches)


def test_a_server_without_ranges_is_explained(path: Path, site: Site) -> None:
    store = open_store(there(site, path))
    site.ranges = False
    with pytest.raises(DataError, match="ignores ranges"):
        store.read(0, 0, 1)


def test_damage_on_a_server_is_found(path: Path, site: Site) -> None:
    url = there(site, path)
    store = open_store(url)
    shard, lost = path / "state/c/0/0/0/0/0", path / "state/c/1/0/0/0/0"
    content = bytearray(shard.read_bytes())
    content[-9] ^= 1
    shard.write_bytes(content)
    lost.unlink()
    (path / "mask/zarr.json").write_bytes(b"{}")
    found = {damage.path: damage.kind for damage in verify(Url(url))}
    assert found == {
        "mask/zarr.json": "size",
        "state/c/0/0/0/0/0": "checksum",
        "state/c/1/0/0/0/0": "missing",
    }
    with pytest.raises(DamagedFileError, match="the shard's index is torn or damaged"):
        store.read(0, 0, 1)
    with pytest.raises(DamagedFileError, match="c/1/0/0/0/0: the shard is missing"):
        store.read(1, 0, 1)
    shard.write_bytes(bytes(content[:50]))
    with pytest.raises(DamagedFileError, match="the file ends after 50"):
        store.read(0, 0, 1)
    with pytest.raises(DamagedFileError, match=r"mask/zarr\.json: 2 bytes where \d+ were written"):
        open_store(url)
    with pytest.raises(ConfigError, match="a store on a server can only be read"):
        repair(Url(url))


def test_places_without_a_store_are_explained(path: Path, site: Site) -> None:
    with pytest.raises(MissingFileError, match=r"other\.zarr: no such store"):
        open_store(f"{site.url}/other.zarr")
    path.rename(path.with_name("young.zarr.building"))
    with pytest.raises(MissingFileError, match="its build is not complete"):
        open_store(f"{site.url}/young.zarr")
    with pytest.raises(ConfigError, match="unknown protocol 'htp'"):
        open_store("htp://host/a.zarr")
    site.kill()
    with pytest.raises(DamagedFileError, match="tried 4 times: Cannot connect"):
        open_store(f"{site.url}/young.zarr")


@pytest.mark.parametrize(
    ("url", "package"), [("s3://bucket/a.zarr", "s3fs"), ("gs://bucket/a.zarr", "gcsfs")]
)
def test_a_missing_package_is_named(url: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=rf"pip install 'pelagos\[remote\]', which brings {package}"):
        open_store(url)


@pytest.mark.parametrize("url", ["https://host/a.zarr?token=1", "s3://bucket/a.zarr#b"])
def test_credentials_in_a_url_are_refused(url: str) -> None:
    with pytest.raises(ValidationError, match="credentials belong in the environment"):
        DatasetConfig(path=url)


def test_what_is_written_stays_here(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="only a folder of this machine can be written to"):
        configuration("s3://bucket/stores")  # type: ignore[arg-type]
    here = configuration(tmp_path.as_uri())  # type: ignore[arg-type]
    assert here.root == tmp_path
    assert BuildConfig.model_validate_json(here.model_dump_json()) == here


def test_a_place_survives_the_configuration() -> None:
    config = DatasetConfig(path="https://host/stores/a.zarr/")
    assert config.path == Url("https://host/stores/a.zarr")
    assert config.model_dump(mode="json")["path"] == "https://host/stores/a.zarr"
    assert DatasetConfig.model_validate(config.model_dump(mode="json")) == config
    assert (config.path.name, config.path.stem, str(config.path.parent)) == (
        "a.zarr",
        "a",
        "https://host/stores",
    )


def test_ranges_are_of_bytes_from_either_end(site: Site, path: Path) -> None:
    file, url = path / "state/c/0/0/0/0/0", Url(f"{there(site, path)}/state/c/0/0/0/0/0")
    content = file.read_bytes()
    spans = [ByteRange(url, 3, 10), ByteRange(url, -20), ByteRange(url, 5), ByteRange(url)]
    assert fetch(spans) == [content[3:10], content[-20:], content[5:], content]
    with pytest.raises(MissingFileError, match="no such file on the server"):
        fetch([ByteRange(url.parent / "9")])
    assert locate(str(file)) == file
