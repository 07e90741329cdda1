from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from zarr.codecs import BloscCodec

from pelagos.preprocessing.errors import DamagedFileError
from pelagos.preprocessing.files import location
from pelagos.preprocessing.files.location import Url
from pelagos.preprocessing.store.zarr_server import ServerStore, zarr_store
from tests.preprocessing.range_server import Site, serving


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries follow each other at once."""
    monkeypatch.setattr(location, "RETRY_DELAYS", (0.01, 0.01, 0.01))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    group = zarr.create_group(tmp_path / "g")
    blosc = BloscCodec(cname="lz4")
    group.create_array("a", data=np.arange(1000.0), chunks=(500,), compressors=blosc)
    with serving(tmp_path) as served:
        yield served


def test_zarr_reads_a_server_as_it_reads_a_folder(site: Site, tmp_path: Path) -> None:
    for place in (tmp_path / "g", Url(f"{site.url}/g")):
        group: Any = zarr.open_group(zarr_store(place), mode="r")
        assert np.array_equal(group["a"][:], np.arange(1000.0))


def test_a_server_that_is_busy_is_asked_again(site: Site) -> None:
    array: Any = zarr.open_array(zarr_store(Url(f"{site.url}/g/a")), mode="r")
    site.failures = 3
    assert array[700] == 700


def test_nothing_is_written(site: Site) -> None:
    array: Any = zarr.open_array(zarr_store(Url(f"{site.url}/g/a")), mode="r")
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1


def test_a_blosc_chunk_that_is_cut_short_is_no_data(site: Site, tmp_path: Path) -> None:
    chunk = tmp_path / "g/a/c/1"
    content = chunk.read_bytes()
    chunk.write_bytes(content[: len(content) // 2])
    store = ServerStore.at(Url(f"{site.url}/g"))
    store.blosc_arrays.add("a")
    group: Any = zarr.open_group(store, mode="r")
    assert group["a"][3] == 3
    with pytest.raises(DamagedFileError, match=rf"g/a/c/1: has {len(content) // 2} of {len(content)} bytes"):
        group["a"][700]
