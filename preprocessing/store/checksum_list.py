"""Checksum list: the SHA-256 of each file of a folder, in the form of `sha256sum`, and one digest of them all.

The list is a file of the folder. Each byte of it is fixed by the files that it names, so no change of it goes unseen.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from pelagos.preprocessing.errors import DamagedFileError
from pelagos.preprocessing.files.durable import sha256, write_bytes

CHECKSUM_LIST = "SHA256SUMS"
# Two spaces: a binary file in the words of sha256sum(1). A name becomes a path, which must not leave the folder.
_LINE = re.compile(r"([0-9a-f]{64})  ((?!/)(?!(?:.*/)?\.\.(?:/|$))[^\\\n\r]+)\n")


def checksum_text(digests: Mapping[str, str]) -> str:
    """The list of these SHA-256 by file name, in the order of the names.

    >>> checksum_text({"b": "1" * 64, "a": "0" * 64}).split()[1::2]
    ['a', 'b']
    """
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items()))


def list_files(folder: Path, names: Iterable[str]) -> str:
    """The list of some of a folder's files as they are on disk."""
    return checksum_text({name: sha256(folder / name) for name in names})


def write_list(folder: Path, text: str) -> str:
    """Write a list into its folder durably; returns its digest."""
    write_bytes(folder / CHECKSUM_LIST, text.encode())
    return digest(text)


def digest(text: str) -> str:
    """The one digest that stands for all files of a list."""
    return hashlib.sha256(text.encode()).hexdigest()


def all_files(folder: Path) -> list[str]:
    """The names of all files below a folder, without its list."""
    found = (str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())
    return sorted(name for name in found if name != CHECKSUM_LIST)


def listed_files(folder: Path) -> dict[str, str] | None:
    """The SHA-256 by file name that a folder's list promises; None where the folder has no list.

    Raises:
        DamagedFileError: the list is not as it was written.
    """
    file = folder / CHECKSUM_LIST
    if not file.is_file():
        return None
    content = file.read_bytes()
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise DamagedFileError(f"{file}: damaged: {error}; restore the folder from a copy") from error
    digests = {name: found for found, name in _LINE.findall(text)}
    # Written again it must be the same, so that nothing in it is passed over.
    if not digests or checksum_text(digests) != text:
        raise DamagedFileError(
            f"{file}: damaged: a line is not a SHA-256, two spaces and a name; restore the folder from a copy"
        )
    return digests


def verify_list(folder: Path, *, closed: bool = False) -> str | None:
    """Compare a folder with its list; returns the list's digest, None where the folder has no list.

    Args:
        folder: the folder.
        closed: whether files that the list does not name are faults as well.

    Raises:
        DamagedFileError: the list or a file of it is not as it was written.
    """
    digests = listed_files(folder)
    if digests is None:
        return None
    for name, expected in digests.items():
        if not (folder / name).is_file():
            raise DamagedFileError(
                f"{folder / name}: missing, though {CHECKSUM_LIST} names it; copy it again"
            )
        if (found := sha256(folder / name)) != expected:
            raise DamagedFileError(
                f"{folder / name} fails its checksum: SHA-256 {found[:12]}... where {expected[:12]}... was written;"
                " it was changed or copied incompletely: restore it from a copy"
            )
    if closed and (others := [name for name in all_files(folder) if name not in digests]):
        raise DamagedFileError(f"{folder / others[0]}: {CHECKSUM_LIST} does not know this file; remove it")
    return digest(checksum_text(digests))
