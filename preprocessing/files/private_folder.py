"""PrivateFolder: a folder for files that are as good as code, which nobody but the user may have written."""

import os
import stat
from pathlib import Path

from pelagos.preprocessing.errors import DataError


class UnsafeFolderError(DataError):
    """Others may write, or have written, to a folder that has to be the user's alone."""


def private_folder(base: Path, name: str) -> Path:
    """The folder `base/name` with mode 0700; it is made if there is none.

    Raises:
        UnsafeFolderError: there is one that is not the user's alone, or others may put another in its place.
        OSError: it cannot be made.
    """
    folder = base.absolute() / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()  # a link may lead to anybody's folder
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise UnsafeFolderError(
            f"{folder}: has mode {stat.filemode(found.st_mode)} and belongs to user {found.st_uid}; a folder of user "
            f"{os.getuid()} with drwx------ would be right: delete it, and it is made again"
        )
    for parent in folder.parents:
        above = parent.stat().st_mode
        # In a folder like /tmp the sticky bit keeps others from renaming what is not theirs.
        if above & stat.S_IWOTH and not above & stat.S_ISVTX:
            raise UnsafeFolderError(
                f"{folder}: everybody may write to {parent}; take that right away (chmod o-w)"
            )
    return folder
