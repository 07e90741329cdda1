"""A folder's list of checksums: `sha256sum` takes it, and no byte of the folder changes unseen."""

import shutil
import subprocess
from pathlib import Path

import pytest

from pelagos.preprocessing.errors import DamagedFileError
from pelagos.preprocessing.store.checksum_list import (
    CHECKSUM_LIST,
    all_files,
    checksum_text,
    digest,
    list_files,
    listed_files,
    verify_list,
    write_list,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "inner").mkdir()
    (tmp_path / "a.json").write_text("{}\n")
    (tmp_path / "inner" / "b c.bin").write_bytes(bytes(range(40)))
    write_list(tmp_path, list_files(tmp_path, all_files(tmp_path)))
    return tmp_path


def test_every_change_of_a_byte_is_refused_wherever_it_is(folder: Path) -> None:
    assert verify_list(folder, closed=True)
    for name in (*all_files(folder), CHECKSUM_LIST):
        file = folder / name
        content = file.read_bytes()
        for place in range(len(content)):
            for bit in (1, 32):
                file.write_bytes(content[:place] + bytes([content[place] ^ bit]) + content[place + 1 :])
                with pytest.raises(DamagedFileError):
                    verify_list(folder)
        file.write_bytes(content)
    assert verify_list(folder, closed=True)


def test_the_digest_follows_the_content_and_not_the_place(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    copy = tmp_path_factory.mktemp("copy") / "folder"
    shutil.copytree(folder, copy)
    assert verify_list(copy) == verify_list(folder) == digest((folder / CHECKSUM_LIST).read_text())
    (copy / "a.json").write_text("[]\n")
    assert digest(list_files(copy, all_files(copy))) != verify_list(folder)


def test_a_missing_file_is_named_and_one_too_many_where_the_folder_is_closed(folder: Path) -> None:
    (folder / "more").write_text("")
    assert verify_list(folder)
    with pytest.raises(DamagedFileError, match="more: SHA256SUMS does not know this file"):
        verify_list(folder, closed=True)
    (folder / "a.json").unlink()
    with pytest.raises(DamagedFileError, match=r"a\.json: missing, though SHA256SUMS names it"):
        verify_list(folder)


def test_a_folder_without_a_list_promises_nothing(tmp_path: Path) -> None:
    assert listed_files(tmp_path) is None
    assert verify_list(tmp_path) is None


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", "a\\b"])
def test_a_list_names_nothing_outside_its_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / CHECKSUM_LIST).write_text(checksum_text({name: "0" * 64}))
    with pytest.raises(DamagedFileError, match="a line is not a SHA-256"):
        listed_files(tmp_path)


def test_sha256sum_checks_the_list(folder: Path) -> None:
    command = shutil.which("sha256sum")
    if command is None:
        pytest.skip("needs sha256sum")
    done = subprocess.run(
        [command, "--check", "--strict", CHECKSUM_LIST], cwd=folder, check=False, capture_output=True
    )
    assert done.returncode == 0, done.stderr
