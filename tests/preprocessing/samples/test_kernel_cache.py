"""Compiled functions are kept, and never read where they are damaged, stale or another user's."""

import logging
import os
from pathlib import Path
from typing import Any, NamedTuple

import numba
import pytest

from pelagos.preprocessing.samples import kernel_cache
from pelagos.preprocessing.samples.kernel_cache import (
    KernelCache,
    UnsafeFolderError,
    private_folder,
    version_key,
)


def double(x: int) -> int:
    """What is compiled."""
    return 2 * x


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a compiled function in it."""
    folder = private_folder(tmp_path, "kernels")
    assert started(folder)(4) == 8
    return folder


def started(folder: Path) -> Any:
    """The function as a new process would make it."""
    dispatcher = numba.njit(double)
    dispatcher._cache = KernelCache(double, folder)
    return dispatcher


def hits(folder: Path) -> int:
    """How many compiled versions a call finds."""
    function = started(folder)
    assert function(4) == 8
    return sum(function.stats.cache_hits.values())


def test_the_next_process_finds_what_was_compiled(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert hits(folder) == 1
    assert not caplog.records


@pytest.mark.parametrize("suffix", [".nbi", ".nbc"])
@pytest.mark.parametrize("damage", ["flip", "cut", "empty"])
def test_what_is_damaged_is_said_once_and_compiled_anew(
    suffix: str, damage: str, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    [file] = folder.glob(f"*{suffix}")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    damaged = {"flip": content, "cut": content[: len(content) // 2], "empty": bytearray()}
    file.write_bytes(damaged[damage])
    assert hits(folder) == 0
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert "compiled anew" in record.getMessage()
    assert str(folder) in record.getMessage()
    assert hits(folder) == 1
    assert len(caplog.records) == 1


def test_a_pickle_that_was_put_there_is_not_opened(folder: Path, tmp_path: Path) -> None:
    # In protocol 0: call os.mkdir with a path.
    mark = tmp_path / "run"
    for file in folder.iterdir():
        file.write_bytes(f"cos\nmkdir\n(V{mark}\ntR.".encode())
    assert hits(folder) == 0
    assert not mark.exists()


def test_a_file_of_another_user_is_not_opened(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(os, "getuid", lambda: folder.stat().st_uid + 1)
    assert hits(folder) == 0
    assert "belongs to user" in caplog.text


def test_a_full_disk_leaves_the_function_at_work(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    function = started(folder / "gone" / "too")
    assert function(4) == 8
    assert "cannot be kept" in caplog.text


class Place(NamedTuple):
    """A type among the arguments."""

    number: int


class Moved(NamedTuple):
    """The same type in another place."""

    number: int


def test_the_folder_changes_with_versions_sources_and_the_place_of_types(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = {version_key([double, Place])}
    for target, value in (("pelagos.__version__", "9.0"), ("numba.__version__", "9.0")):
        with monkeypatch.context() as patch:
            patch.setattr(target, value)
            seen.add(version_key([double, Place]))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", lambda self: b"another source")
        seen.add(version_key([double, Place]))
    seen.add(version_key([double, Moved]))
    assert len(seen) == 5


def test_a_folder_that_is_not_the_users_alone_is_said_and_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    name = version_key([double])
    private_folder(tmp_path / "pelagos", name).chmod(0o755)
    kernel_cache._folder.cache_clear()
    function: Any = kernel_cache.compiled(double, [])
    assert function.stats.cache_path is None
    assert "compiled loops are not kept" in caplog.text
    kernel_cache._folder.cache_clear()


def test_it_is_made_for_the_user_alone_and_found_again(tmp_path: Path) -> None:
    folder = private_folder(tmp_path / "cache", "kernels")
    assert folder.stat().st_mode & 0o777 == 0o700
    assert private_folder(tmp_path / "cache", "kernels") == folder


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o702])
def test_one_that_others_may_enter_is_refused(mode: int, tmp_path: Path) -> None:
    private_folder(tmp_path, "kernels").chmod(mode)
    with pytest.raises(UnsafeFolderError, match="drwx------ would be right"):
        private_folder(tmp_path, "kernels")


def test_a_link_and_another_users_folder_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = private_folder(tmp_path, "kernels")
    (tmp_path / "link").symlink_to(folder)
    with pytest.raises(UnsafeFolderError, match="lrwx"):
        private_folder(tmp_path, "link")
    monkeypatch.setattr(os, "getuid", lambda: folder.stat().st_uid + 1)
    with pytest.raises(UnsafeFolderError, match="belongs to user"):
        private_folder(tmp_path, "kernels")


def test_everybodys_folder_above_is_refused_unless_it_is_sticky(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(UnsafeFolderError, match="everybody may write"):
        private_folder(tmp_path, "kernels")
    tmp_path.chmod(0o1777)
    assert private_folder(tmp_path, "kernels").is_dir()
