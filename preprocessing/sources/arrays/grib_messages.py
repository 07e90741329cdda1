"""The messages of a GRIB file, walked along their lengths before ecCodes reads them.

ecCodes leaves out a torn message without a word where it finds no other after it, and may end the process where the
lengths of sections contradict that of their message.
"""

from pathlib import Path
from typing import BinaryIO

from pelagos.preprocessing.errors import DamagedFileError

_BLOCK = 1 << 20
_LARGE = 1 << 23  # bit of edition 1 by which ECMWF marks messages whose length counts in units of 120 bytes


_HEADING = 1 << 12  # headings of bulletins have some ten bytes, and no one writes a page before a message


def leading_bytes(path: Path) -> int | None:
    """The number of bytes before the first message; None where no message is near the start."""
    with path.open("rb") as file:
        head = file.read(_HEADING)
    start = head.find(b"GRIB")
    # The edition is in octet 8; other files may hold the word.
    return start if start >= 0 and head[start + 7 : start + 8] in (b"\1", b"\2") else None


def check_messages(path: Path) -> None:
    """Raise DamagedFileError unless every message is whole and nothing between two is the rest of one."""
    position, number, size = 0, 0, path.stat().st_size
    with path.open("rb") as file:
        while position < size:
            start = _next(path, file, position)
            if start is None:
                return
            length = _length(path, file, start, number)
            if length is None:
                return
            if start + length > size:
                raise _damaged(path, "its last message is torn")
            file.seek(start + length - 4)
            if file.read(4) != b"7777":
                raise _damaged(path, f"message {number} (from byte {start} on) does not end where it says")
            if fault := _fault_of_sections(file, start, length):
                raise _damaged(path, f"message {number} (from byte {start} on) is damaged: {fault}")
            position, number = start + length, number + 1


def _damaged(path: Path, what: str) -> DamagedFileError:
    return DamagedFileError(f"{path}: {what}; download or create it again")


def _next(path: Path, file: BinaryIO, position: int) -> int | None:
    """Where the next message starts: what lies before it is padding or the heading of a bulletin."""
    file.seek(position)
    if file.read(4) == b"GRIB":
        return position
    between, at = b"", position
    file.seek(position)
    while block := file.read(_BLOCK):
        between = between[-3:] + block
        found = between.find(b"GRIB")
        if b"7777" in between[: None if found < 0 else found]:
            raise _damaged(path, f"after byte {position} there is a message without its beginning")
        if found >= 0:
            return at + found - (len(between) - len(block))
        at += len(block)
    return None


def _length(path: Path, file: BinaryIO, start: int, number: int) -> int | None:
    """The length of a message; None where it is one of ECMWF's large ones of edition 1, which are not walked."""
    file.seek(start)
    head = file.read(16)
    edition = head[7] if len(head) > 7 else 0
    if len(head) == 16 and edition not in (1, 2):
        raise _damaged(path, f"message {number} is of edition {edition}, but 1 and 2 are read")
    length = int.from_bytes(head[8:16]) if edition == 2 else int.from_bytes(head[4:7])
    if edition == 1 and length & _LARGE:
        return None
    return max(length, 16)


def _fault_of_sections(file: BinaryIO, start: int, length: int) -> str:
    """How the lengths of sections contradict that of their message; empty if they do not."""
    file.seek(start)
    edition = file.read(8)[7]
    end = start + length - 4
    if edition == 2:
        position = start + 16
        while position < end:
            file.seek(position)
            section = int.from_bytes(file.read(4))
            if section < 5:
                return f"a section of {section} bytes"
            position += section
        return "" if position == end else f"its sections are {position - end} bytes too long"
    file.seek(start + 8)
    product = file.read(8)
    # Octet 8 says whether a section of the grid and one of a bitmap follow; the data come last.
    optional = bool(product[7] & 0x80) + bool(product[7] & 0x40)
    position = start + 8
    for _ in range(2 + optional):
        file.seek(position)
        section = int.from_bytes(file.read(3))
        if section < 4 or position + section > end:
            return f"a section of {section} bytes"
        position += section
    return ""
