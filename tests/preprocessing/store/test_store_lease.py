"""A store that is open for reading is not replaced; who replaces it nevertheless is found out."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from analytic_source import configuration

from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.errors import DamagedFileError
from pelagos.preprocessing.files.durable import LockedError
from pelagos.preprocessing.store.store import open_store
from pelagos.preprocessing.store.store_lease import StoreLease, replacing_store

READER = """
import sys
from pathlib import Path
from typing import Any
from pelagos.preprocessing.store.store_lease import StoreLease
lease = StoreLease(Path(sys.argv[1]))
print("holds", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return build(configuration(tmp_path))


def other(path: Path) -> None:
    """Replace a store by one with another split."""
    values: dict[str, Any] = {"splits": {"kind": "trajectories", "test": 2}, "overwrite": True}
    build(configuration(path.parents[1], **values))


def test_a_reader_keeps_its_bytes_and_the_build_is_refused_until_it_ends(path: Path) -> None:
    store = open_store(path)
    before = store.read(0, 0, 2)
    with pytest.raises(LockedError, match="is open for reading, here or in another process"):
        other(path)
    assert np.array_equal(store.read(5, 0, 2), open_store(path).read(5, 0, 2))
    # Datasets keep the readers of a store, not always the store.
    frames, out = store.frames, np.empty(before.shape[1:], np.float32)
    del store
    with pytest.raises(LockedError):
        other(path)
    frames.read_frame((0, 0), [out])
    assert np.array_equal(out, before[0])
    del frames
    other(path)
    assert open_store(path).splits["test"][:, 0].sum() == 2


def test_a_store_that_is_opened_during_the_build_is_not_replaced_and_the_build_goes_on_later(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readers = []

    def begin_reading(done: int, num: int) -> None:
        readers.append(open_store(path))

    values: dict[str, Any] = {"splits": {"kind": "trajectories", "test": 2}, "overwrite": True}
    config = configuration(path.parents[1], **values)
    with pytest.raises(LockedError):
        build(config, begin_reading)
    assert readers[0].splits["test"][:, 0].sum() == 1
    readers.clear()
    monkeypatch.setattr(
        "pelagos.preprocessing.build.workers.write_part", None
    )  # every shard is there already
    build(config)
    assert open_store(path).splits["test"][:, 0].sum() == 2


def test_readers_in_other_processes_count_until_they_end(path: Path) -> None:
    reader = subprocess.Popen(
        [sys.executable, "-c", READER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert reader.stdout is not None
    assert reader.stdout.readline() == "holds\n"
    with pytest.raises(LockedError), replacing_store(path):
        pass
    reader.kill()
    reader.wait()
    reader.stdout.close()
    assert reader.stdin is not None
    reader.stdin.close()
    with replacing_store(path):
        pass


def test_a_store_that_was_replaced_by_other_means_is_not_mixed_with_the_new_one(path: Path) -> None:
    store = open_store(path)
    store.read(0, 0, 1)
    copy = path.with_name("copy.zarr")
    shutil.copytree(path, copy)
    shutil.rmtree(path)
    copy.rename(path)
    # The shard that is open is the reader's own; another would be of the new store.
    store.read(0, 0, 1)
    with pytest.raises(DamagedFileError, match="the store was replaced or moved while it was read"):
        store.read(5, 0, 1)


def test_what_is_no_store_keeps_nobody_out(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        StoreLease(tmp_path)
    with replacing_store(tmp_path / "nothing"), replacing_store(tmp_path):
        pass
