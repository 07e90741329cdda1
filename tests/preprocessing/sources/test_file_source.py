"""Files: paths, patterns and lists name the files that they seem to name, or say what is wrong."""

from pathlib import Path

import pytest

from pelagos.preprocessing.errors import DataError, MissingFileError
from pelagos.preprocessing.sources.file_source import FileSource


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("v_1.nc", "v_2.nc", "v_10.nc", "c_0.nc"):
        (tmp_path / name).touch()
    return tmp_path


def test_numbers_in_names_are_ordered_as_numbers(folder: Path) -> None:
    assert [file.name for file in FileSource(paths=f"{folder}/v_*.nc").files()] == [
        "v_1.nc",
        "v_2.nc",
        "v_10.nc",
    ]


def test_a_list_keeps_its_order_and_what_matches_a_pattern_within_it_is_sorted(folder: Path) -> None:
    names = [file.name for file in FileSource(paths=[f"{folder}/v_*.nc", folder / "c_0.nc"]).files()]
    assert names == ["v_1.nc", "v_2.nc", "v_10.nc", "c_0.nc"]


def test_a_name_with_brackets_is_a_file_before_it_is_a_pattern(tmp_path: Path) -> None:
    (tmp_path / "a[1].nc").touch()
    assert FileSource(paths=str(tmp_path / "a[1].nc")).files() == (tmp_path / "a[1].nc",)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("v_3.nc", r"v_3\.nc: no such file; did you mean v_\d+\.nc or "),
        ("zzzzzzzz", r"zzzzzzzz: no such file; .* holds c_0\.nc, v_1\.nc, v_10\.nc, v_2\.nc"),
        ("w_*.nc", r"w_\*\.nc: no file matches this pattern"),
        ("nowhere/v_1.nc", r"no such file; there is no folder .*nowhere either"),
    ],
)
def test_what_is_missing_is_named_with_what_is_there(folder: Path, entry: str, message: str) -> None:
    with pytest.raises(MissingFileError, match=message):
        FileSource(paths=str(folder / entry)).files()


def test_a_file_named_twice_is_an_error(folder: Path) -> None:
    with pytest.raises(DataError, match=r"v_2\.nc named more than once"):
        FileSource(paths=[f"{folder}/v_*.nc", f"{folder}/v_2.nc"]).files()


def test_the_identifier_is_the_file_or_the_folder_unless_given(folder: Path) -> None:
    assert FileSource(paths=f"{folder}/v_1.nc").identifier() == "v_1"
    assert FileSource(paths=f"{folder}/v_*.nc").identifier() == folder.name
    assert FileSource(paths=f"{folder}/v_1.nc").identifier("own") == "own"
    assert FileSource(paths=f"{folder}/v_1.nc", dataset="given").identifier("own") == "given"


def test_no_paths_are_an_error() -> None:
    with pytest.raises(ValueError, match="at least 1 item"):
        FileSource(paths=[])
