"""A private folder is the user's alone, or refused."""

import os
from pathlib import Path

import pytest

from pelagos.preprocessing.files.private_folder import UnsafeFolderError, private_folder


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
