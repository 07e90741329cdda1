from pathlib import Path

import numpy as np
import pytest

from pelagos.preprocessing.array_types import Float32s
from pelagos.preprocessing.errors import DamagedFileError
from pelagos.preprocessing.store.shard_reader import ShardReader
from pelagos.preprocessing.store.store import open_reader
from tests.preprocessing.sharded_array import CODECS, SHAPE, make_array, write_array


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    make_array(tmp_path / "a", "none")
    with pytest.raises(DamagedFileError, match=r"a/c/2/0/0/0/0: the shard is missing"):
        open_reader(tmp_path / "a").read_frame((4, 0), [np.empty(SHAPE[2:], np.float32)])


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("place", [-3, -30])
def test_a_damaged_index_is_found_when_the_shard_is_opened(
    tmp_path: Path, values: Float32s, codec: str, place: int
) -> None:
    make_array(tmp_path / "a", codec)
    layout = write_array(tmp_path / "a", values)
    file = tmp_path / "a" / layout.key((1, 0, 0, 0, 0))
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)
    with pytest.raises(DamagedFileError, match=r"c/1/0/0/0/0: the shard's index is torn or damaged"):
        open_reader(tmp_path / "a").read_frame((2, 0), [np.empty(SHAPE[2:], np.float32)])


def test_a_truncated_shard_is_found_when_it_is_opened(tmp_path: Path, values: Float32s) -> None:
    make_array(tmp_path / "a", "none")
    file = tmp_path / "a" / write_array(tmp_path / "a", values).key((0, 0, 0, 0, 0))
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(DamagedFileError, match="torn or damaged"):
        open_reader(tmp_path / "a").read_frame((0, 0), [np.empty(SHAPE[2:], np.float32)])


def test_an_index_that_points_beyond_the_file_is_damage(tmp_path: Path, values: Float32s) -> None:
    make_array(tmp_path / "a", "none", (1, 7))
    layout = write_array(tmp_path / "a", values)
    file = tmp_path / "a" / "c/0/0/0/0/0"
    content = file.read_bytes()
    file.write_bytes(content[len(content) // 2 :])  # the index is whole, and what it points to is not
    with pytest.raises(DamagedFileError, match="c/0/0/0/0/0: the shard ends before its index says so"):
        ShardReader(tmp_path / "a", layout).read_frame((0, 0), [np.empty(SHAPE[2:], np.float32)])
