import numpy as np
import pytest

from pelagos.preprocessing.store.codec import compress, decompress


def test_decoding_undoes_encoding_to_the_bit() -> None:
    chunk = np.random.default_rng(0).normal(size=(3, 50)).astype(np.float32)
    chunk[1, 7] = np.nan
    out = np.empty(chunk.nbytes, np.uint8)
    decompress(compress(chunk), out)
    assert out.tobytes() == chunk.tobytes()


def test_a_field_of_equal_values_takes_less_room() -> None:
    chunk = np.full(10_000, 3.5, np.float32)
    assert len(compress(chunk)) < chunk.nbytes / 50


def test_what_is_no_chunk_of_the_size_is_refused() -> None:
    encoded = compress(np.arange(100, dtype=np.float32))
    with pytest.raises(ValueError, match=r"."):
        decompress(np.zeros(64, np.uint8), np.empty(400, np.uint8))
    with pytest.raises(ValueError, match=r"."):
        decompress(encoded, np.empty(100, np.uint8))
