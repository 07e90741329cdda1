"""A shard that is written chunk by chunk is one to any reader of Zarr."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import zarr

from pelagos.preprocessing.store.shard_stream import ShardStream


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_chunks_in_any_order_are_read_in_their_places(dtype: type[np.floating], tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(2, 6, 3)).astype(dtype)
    array = zarr.create_array(
        tmp_path, shape=values.shape, shards=(2, 6, 3), chunks=(1, 2, 3), dtype=dtype, compressors=None,
        fill_value=np.nan,
    )  # fmt: skip
    (tmp_path / "c" / "0" / "0").mkdir(parents=True)
    with ShardStream(tmp_path / "c/0/0/0", (2, 3, 1)) as shard:
        for part in (2, 0):
            block = values.reshape(2, 3, 2, 3)[:, part].reshape(2, 1, 1, 1, 2, 3)
            shard.write((0, part, 0), np.ascontiguousarray(block))
    found = np.asarray(array[...])
    np.testing.assert_array_equal(found[:, [0, 1, 4, 5]], values[:, [0, 1, 4, 5]])
    assert np.isnan(found[:, 2:4]).all()
    assert shard.sha256 == hashlib.sha256((tmp_path / "c/0/0/0").read_bytes()).hexdigest()


def test_a_shard_that_fails_leaves_no_file(tmp_path: Path) -> None:
    def fail() -> None:
        with ShardStream(tmp_path / "0", (1,)) as shard:
            shard.write((0,), np.zeros((1, 4)))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert list(tmp_path.iterdir()) == []
