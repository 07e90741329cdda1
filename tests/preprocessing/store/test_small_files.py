"""The small files of a store are compared with the manifest when it is opened."""

from pathlib import Path

import numpy as np
import pytest
import zarr
from analytic_source import configuration

from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.errors import DamagedFileError
from pelagos.preprocessing.store.manifest import read_manifest
from pelagos.preprocessing.store.small_files import (
    manifest_of,
    read_small_arrays,
    read_small_files,
    shard_files,
)
from pelagos.preprocessing.store.store import open_store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return build(configuration(tmp_path, {"static": "varying", "scalars": True}))


def test_they_are_all_but_the_shards(path: Path) -> None:
    manifest = read_manifest(path)
    contents = read_small_files(path, manifest)
    assert {"zarr.json", "state/zarr.json", "split/c/0/0", "stats/mean/c/0", "mask/c/0/0/0", "y/c/0"} <= set(
        contents
    )
    assert contents["time/c/0"] == (path / "time/c/0").read_bytes()
    shards = {f"{array}/{key}" for array in ("state", "static") for key in shard_files(manifest, array)}
    assert shards
    assert not shards & set(contents)
    assert shards | set(contents) == set(manifest.files)


@pytest.mark.parametrize(
    "name",
    ["zarr.json", "state/zarr.json", "split/c/0/0", "stats/std/c/0", "mask/c/0/0/0", "y/c/0", "params/c/0/0"],
)
def test_a_change_of_a_byte_is_refused(path: Path, name: str) -> None:
    content = bytearray((path / name).read_bytes())
    content[len(content) // 2] ^= 1
    (path / name).write_bytes(content)
    with pytest.raises(DamagedFileError, match=f"{name}: "):
        open_store(path)


def test_a_longer_file_is_refused(path: Path) -> None:
    with (path / "time/c/0").open("ab") as file:
        file.write(b"1")
    with pytest.raises(
        DamagedFileError, match=r"time/c/0: \d+ bytes where \d+ were written; `pelagos repair` mends"
    ):
        open_store(path)


def test_every_change_of_the_manifest_is_refused(path: Path) -> None:
    file = path / "_build/manifest.json"
    content = file.read_bytes()
    # Beside values, as those to which JSON is indifferent.
    for place in (0, 1, 2, 3, 40, len(content) // 2, len(content) - 1, content.index(b"\n", 100)):
        changed = bytearray(content)
        changed[place] ^= 1
        file.write_bytes(changed)
        with pytest.raises(DamagedFileError, match=r"manifest\.json: damaged"):
            open_store(path)
    file.write_bytes(content.replace(b"\n", b"\n "))
    with pytest.raises(DamagedFileError, match="not as it was written"):
        open_store(path)


def test_a_copy_without_a_manifest_is_opened_with_a_word(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    open_store(path)
    assert "no file of it is checked" not in caplog.text
    (path / "_build/manifest.json").unlink()
    assert manifest_of(path) is None
    assert open_store(path).num_trajectories == 6
    assert "no file of it is checked" in caplog.text


@pytest.fixture
def group(tmp_path: Path) -> Path:
    made = zarr.create_group(tmp_path / "g")
    made.create_array("time", data=np.arange(5.0), chunks=(5,))
    made.create_array("stats/mean", data=np.ones((2, 3), np.float32), chunks=(2, 3))
    return tmp_path / "g"


def test_arrays_come_back_by_name(group: Path) -> None:
    found = read_small_arrays(group, ["stats/mean", "time"])
    assert found["time"].tolist() == [0, 1, 2, 3, 4]
    assert found["stats/mean"].dtype == np.float32
    assert found["stats/mean"].shape == (2, 3)


@pytest.mark.parametrize("file", ["time/c/0", "time/zarr.json"])
def test_a_missing_file_is_damage_and_no_zeros(group: Path, file: str) -> None:
    (group / file).unlink()
    with pytest.raises(DamagedFileError, match=f"{file}: missing; `pelagos repair` mends the store"):
        read_small_arrays(group, ["time"])


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [("time/zarr.json", b"[]", r"time/zarr\.json: damaged"), ("time/c/0", b"torn", "time: cannot be read")],
)
def test_damaged_files_are_named(group: Path, file: str, content: bytes, message: str) -> None:
    (group / file).write_bytes(content)
    with pytest.raises(DamagedFileError, match=message):
        read_small_arrays(group, ["stats/mean", "time"])
