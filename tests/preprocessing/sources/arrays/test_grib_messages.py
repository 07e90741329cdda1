"""Messages of GRIB: torn, lost and contradictory ones are named before ecCodes meets them."""

import os
from pathlib import Path
from typing import Any

import eccodes
import numpy as np
import pytest

from pelagos.preprocessing.errors import DamagedFileError
from pelagos.preprocessing.sources.arrays.grib_file import open_cubes
from pelagos.preprocessing.sources.arrays.grib_messages import check_messages
from tests.preprocessing.sources.formats.test_grib import messages


@pytest.mark.parametrize("lost", [1, 40, 150])
def test_a_torn_last_message_is_named(tmp_path: Path, lost: int) -> None:
    path = Path(messages(tmp_path / "a.grib"))
    os.truncate(path, path.stat().st_size - lost)
    with pytest.raises(
        DamagedFileError, match=r"a\.grib: its last message is torn; download or create it again"
    ):
        open_cubes(path)


@pytest.mark.parametrize("padding", [bytes(64), b"\r\r\n123\r\r\nHTXA85 ECMF 010000\r\r\n", b"\n"])
def test_padding_and_headings_between_messages_are_allowed(tmp_path: Path, padding: bytes) -> None:
    path = Path(messages(tmp_path / "a.grib"))
    whole = path.read_bytes()
    path.write_bytes(padding.join([whole, whole[:0]]))
    assert set(open_cubes(path)[0].sizes) >= {"latitude", "longitude"}
    length = int.from_bytes(whole[8:16])
    path.write_bytes(whole[:length] + padding + whole[length:] + padding)
    check_messages(path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("middle lost", "message 1 .* does not end where it says"),
        ("end", "message 0 .* does not end where it says"),
        ("edition", "message 0 is of edition 7, but 1 and 2 are read"),
        ("section", "message 0 .* is damaged: its sections are"),
        ("zeros", "message 1 .* is damaged: a section of 0 bytes"),
        ("head lost", "there is a message without its beginning"),
        ("only", "its last message is torn"),
        ("text", "is of edition 32|its last message is torn"),
    ],
)
def test_damage_anywhere_is_named(tmp_path: Path, name: str, message: str) -> None:
    """ecCodes has an error for each, and ends the process at a wrong length of a section."""
    path = Path(messages(tmp_path / "a.grib"))
    whole = path.read_bytes()
    length = int.from_bytes(whole[8:16])
    damaged = {
        "middle lost": whole[: length + 20] + whole[length + 60 :],
        "end": whole[: length - 4] + b"8888" + whole[length:],
        "edition": whole[:7] + b"\x07" + whole[8:],
        "section": whole[:16] + b"\xff\xff\xff\xff" + whole[20:],
        "zeros": whole[: length + 16] + bytes(length - 20) + whole[2 * length - 4 :],
        "head lost": whole[:length] + whole[length + 1 :],
        "only": b"GRIB",
        "text": b"GRIB is a format" * 20,
    }
    path.write_bytes(damaged[name])
    with pytest.raises(DamagedFileError, match=rf"a\.grib: .*({message}).*; download or create it again"):
        open_cubes(path)


def test_sections_of_edition_1_are_walked_as_well(tmp_path: Path) -> None:
    handle = eccodes.codes_grib_new_from_samples("GRIB1")
    keys: dict[str, Any] = {"shortName": "2t", "dataDate": 20200101}
    for key, value in keys.items():
        eccodes.codes_set(handle, key, value)
    count = eccodes.codes_get_size(handle, "values")
    eccodes.codes_set_values(handle, np.arange(float(count)))
    whole = eccodes.codes_get_message(handle)
    eccodes.codes_release(handle)
    path = tmp_path / "a.grib"
    path.write_bytes(whole * 2)
    check_messages(path)
    path.write_bytes(whole + whole[:8] + b"\xff\xff\xff" + whole[11:])
    with pytest.raises(DamagedFileError, match=r"a\.grib: message 1 .* a section of 16777215 bytes"):
        check_messages(path)
