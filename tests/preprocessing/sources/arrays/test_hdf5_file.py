"""HDF5 files: what is damaged, missing or no array is named."""

import os
from pathlib import Path

import h5py
import numpy as np
import pytest

from pelagos.preprocessing.assumptions import collect
from pelagos.preprocessing.errors import DamagedFileError, DataError, MissingFileError
from pelagos.preprocessing.sources.absence import absent_values
from pelagos.preprocessing.sources.arrays.hdf5_file import Hdf5Dataset, member, open_hdf5, whole
from pelagos.preprocessing.sources.arrays.lazy_array import lazy_variable

RNG = np.random.default_rng(0)


def test_damage_within_the_data_is_found_when_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        values = RNG.normal(size=(6, 400))
        file.create_dataset("a", data=values, chunks=(1, 400), fletcher32=True)
        reader = Hdf5Dataset.of(file["a"])
        offset = file["a"].id.get_chunk_info(4).byte_offset
    content = bytearray(path.read_bytes())
    content[offset + 8] ^= 0xFF
    path.write_bytes(content)
    made = lazy_variable(("trajectory", "x"), [reader], ("trajectory", "x"), {"trajectory": 6, "x": 400}, {})
    np.testing.assert_array_equal(made[:4], values[:4])
    with pytest.raises(DamagedFileError, match=r"a\.h5: /a: cannot be read"):
        made[4].load()


@pytest.mark.parametrize(
    ("link", "error", "message"),
    [
        (
            h5py.ExternalLink("gone.h5", "/a"),
            MissingFileError,
            "'b' is a link to /a in gone.h5, which is not there",
        ),
        (h5py.SoftLink("/gone"), DataError, "'b' is a link to /gone, which the file does not have"),
    ],
)
def test_links_to_nothing_are_named_however_they_are_opened(
    tmp_path: Path, link: object, error: type[Exception], message: str
) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["a"] = np.zeros(2)
        file["b"] = link
    with pytest.raises(error, match=message), open_hdf5(tmp_path / "a.h5") as file:
        file["b"]
    with pytest.raises(KeyError), open_hdf5(tmp_path / "a.h5"):
        raise KeyError("programmer's mistake")


def test_a_missing_key_lists_those_that_are_there(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["a"] = np.zeros(2)
    with (
        open_hdf5(tmp_path / "a.h5") as file,
        pytest.raises(DataError, match=r"a\.h5: no 'b' in '/'; it holds a$"),
    ):
        member(file, "b")


def test_a_group_where_an_array_should_be_is_named(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        group = file.create_group("g")
        with pytest.raises(DataError, match=r"a\.h5: '/g' is a group where an array was expected"):
            Hdf5Dataset.of(group)


def test_of_many_keys_the_first_are_listed(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for i in range(30):
            file[f"{i:02d}"] = 0
        with pytest.raises(DataError, match=r"it holds 00, 01, .*, 19, \.\.\.$"):
            member(file, "b")


@pytest.mark.parametrize("content", [b"", b"\x89HDF\r\n\x1a\n", b"<html>"])
def test_what_is_no_whole_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.h5").write_bytes(content)
    with pytest.raises(DamagedFileError, match=r"a\.h5: not a whole HDF5 file"), open_hdf5(tmp_path / "a.h5"):
        pass
    with (
        pytest.raises(MissingFileError, match=r"b\.h5: no such file; did you mean a\.h5"),
        open_hdf5(tmp_path / "b.h5"),
    ):
        pass


def test_damage_within_the_structure_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        for i in range(40):
            file.create_group(f"g{i}")["u"] = np.zeros(8)
    content = path.read_bytes()
    messages = []
    for start in range(96, len(content), len(content) // 12):
        path.write_bytes(content[:start] + bytes(200) + content[start + 200 :])
        try:
            with open_hdf5(path) as file:
                for key in file:
                    member(member(file, key), "u")
        except DamagedFileError as error:
            messages.append(str(error))
    assert messages
    assert all("a.h5: " in one and "Unable to" not in one for one in messages)


def test_a_filter_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("u", data=np.zeros(64), chunks=(64,), compression="gzip", shuffle=True)
    available = h5py.h5z.filter_avail
    monkeypatch.setattr(
        h5py.h5z, "filter_avail", lambda code: code != h5py.h5z.FILTER_DEFLATE and available(code)
    )
    with h5py.File(path) as file, pytest.raises(DataError) as error:
        Hdf5Dataset.of(file["u"])
    assert "a.h5: /u is compressed by the HDF5 filter deflate (1), which is not installed" in str(error.value)
    assert "pip install hdf5plugin" in str(error.value)


def test_filters_are_named_by_their_registered_numbers(tmp_path: Path) -> None:
    """Blosc as PyTables and hdf5plugin write it: optional when it is written, needed when it is read."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        created = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        created.set_chunk((8,))
        created.set_filter(32001, h5py.h5z.FLAG_OPTIONAL, (2, 2, 8, 64))
        h5py.h5d.create(file.id, b"u", h5py.h5t.NATIVE_DOUBLE, h5py.h5s.create_simple((8,)), created)
    with h5py.File(path) as file, pytest.raises(DataError, match=r"HDF5 filter blosc \(32001\)"):
        Hdf5Dataset.of(file["u"])


def test_truncated_files_are_told_by_their_bytes_and_not_in_the_words_of_hdf5(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["u"] = np.zeros(4096)
    size = path.stat().st_size
    os.truncate(path, size // 2)
    with (
        pytest.raises(DamagedFileError, match=rf"it has {size // 2} of {size} bytes") as error,
        open_hdf5(path),
    ):
        pass
    assert "synchronously" not in str(error.value)


def test_attributes_that_would_change_values_are_asked_about(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for key, attrs in {
            "packed": {"scale_factor": 0.1, "add_offset": 0.0},
            "marked": {"_FillValue": np.array([-999.0])},
            "plain": {"scale_factor": 1.0, "add_offset": 0.0, "_FillValue": np.nan, "units": "K"},
        }.items():
            file[key] = np.zeros(8)
            file[key].attrs.update(attrs)
        with collect() as assumed:
            for key in file:
                Hdf5Dataset.of(file[key])
    assert {(one.field, one.question) for one in assumed.all} == {("packed", True), ("marked", True)}


def test_an_axis_of_which_a_part_was_never_written_is_refused(tmp_path: Path) -> None:
    """It would read as zeros, and a parameter of 0 is a parameter."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["written"] = np.arange(4.0)
        file.create_dataset("never", (4,), "f8")
        file.create_dataset("torn", (4,), "f8", chunks=(3,))[:3] = 1.0
    with open_hdf5(tmp_path / "a.h5") as file:
        np.testing.assert_array_equal(whole(file["written"]), np.arange(4.0))
        for name in ("never", "torn"):
            with pytest.raises(DamagedFileError, match=rf"a\.h5: /{name}: .* were (n?ever) written"):
                whole(file[name])
        with absent_values("missing"):
            np.testing.assert_array_equal(whole(file["torn"]), [1, 1, 1, np.nan])
        with absent_values("fill"):
            np.testing.assert_array_equal(whole(file["never"]), np.zeros(4))
