"""What an HDF5 file holds beside the arrays that its format reads."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import h5py

from pelagos.preprocessing.sources.left_out_arrays import say_left_out


def say_unread(group: Any, read: Collection[str], apart: Collection[str] = ()) -> None:
    """Say which arrays below an open h5py file or group are not read.

    Args:
        group: what to look through. Where a file repeats the same group for each sample, its first one will do.
        read: keys of the arrays that are read, as seen from the file's root.
        apart: first parts of keys, as seen from the group, whose arrays say where the others lie.
    """
    shapes: dict[str, tuple[int, ...]] = {}

    def note(key: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and key.split("/")[0] not in apart:
            shapes[item.name.strip("/")] = item.shape or ()

    group.visititems(note)
    say_left_out(Path(group.file.filename), shapes, {key.strip("/") for key in read})
