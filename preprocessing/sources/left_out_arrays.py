"""What of a dictionary of arrays is left out: formats that read arrays of known keys name all others."""

from collections.abc import Collection, Mapping
from pathlib import Path

from pelagos.preprocessing.assumptions import assume


def say_left_out(path: Path, shapes: Mapping[str, tuple[int, ...]], read: Collection[str]) -> None:
    """Say which arrays of a file are not read; a number or a single axis is no field.

    Args:
        path: of the file.
        shapes: of all its arrays, by key.
        read: keys of those that are read.
    """
    rest = [
        f"{key} {shape}" for key, shape in shapes.items() if key not in read and sum(n > 1 for n in shape) > 1
    ]
    if rest:
        text = f"{path}: it also holds {', '.join(rest[:10])}{', ...' * (len(rest) > 10)}, which are not read"
        assume("fields_not_read", "", text, "save them as a file of their own, or read all by kind: external")


def say_no_numbers(path: Path, kinds: Mapping[str, str]) -> None:
    """Say which entries of a file are no arrays of numbers but, by key, text or structures."""
    if kinds:
        listed = ", ".join(f"{key} ({kind})" for key, kind in kinds.items())
        text = f"{path}: {listed}: no arrays of numbers, and not read"
        assume("fields_not_read", next(iter(kinds)), text, "save what is needed of them as arrays of numbers")
