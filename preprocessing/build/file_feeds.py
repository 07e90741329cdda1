"""Which split each file of an archive feeds: a test file that trains is a score that means nothing."""

import glob
import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pelagos.preprocessing.assumptions import assume
from pelagos.preprocessing.fields.field_reader import FieldReader
from pelagos.preprocessing.store.format import SPLITS, SplitCodes
from pelagos.preprocessing.store.split import FILE, FileSplit, Split, TrajectorySplit

_LISTED = 6
Feeds = dict[str, dict[str, int]]
"""For each file the number of frames by split."""


def file_of_frames(fields: FieldReader) -> NDArray[Any] | None:
    """The file of each trajectory, (N, 1), or of each time, (1, T); None where files do not follow one another."""
    coordinate = fields.dataset.coords.get("file")
    if coordinate is None:
        sources = json.loads(fields.dataset.attrs["sources"])
        return np.array(sources, object).reshape(1, 1) if len(sources) == 1 else None
    return np.asarray(coordinate.values, object).reshape(
        (-1, 1) if coordinate.dims == ("trajectory",) else (1, -1)
    )


def for_splits(splits: Split, files: NDArray[Any] | None, num_trajectories: int) -> dict[str, NDArray[Any]]:
    """The files as splits need them: for `kind: files`, or to keep those of one file together."""
    if files is None:
        return {}
    if isinstance(splits, FileSplit):
        return {FILE: files}
    if isinstance(splits, TrajectorySplit) and FILE in splits.group_by and files.shape[1] == 1:
        return {FILE: np.broadcast_to(files[:, 0], num_trajectories)}
    return {}


def count_feeds(files: NDArray[Any] | None, codes: SplitCodes) -> Feeds:
    """For each file the number of frames by split; empty where there are fewer than two files."""
    names = [] if files is None else list(dict.fromkeys(files.ravel().tolist()))
    if files is None or len(names) < 2:
        return {}
    numbers = np.broadcast_to(np.vectorize(names.index)(files), codes.shape)
    return {
        name: {
            split: count
            for code, split in enumerate(SPLITS)
            if (count := int(((numbers == number) & (codes == code)).sum()))
        }
        for number, name in enumerate(names)
    }


def describe_feeds(feeds: Feeds) -> list[str]:
    """A line for each file, with the splits that it feeds."""
    lines = [
        f"{name} feeds {', '.join(f'{split} ({count} frames)' for split, count in splits.items()) or 'nothing'}"
        for name, splits in list(feeds.items())[:_LISTED]
    ]
    return [*lines, f"and {len(feeds) - _LISTED} more files"] if len(feeds) > _LISTED else lines


def say_order(feeds: Feeds, splits: Split, paths: tuple[str, ...]) -> None:
    """Say where a pattern gave the files of several splits: the order of their names decides which of them trains."""
    used = {split for one in feeds.values() for split in one}
    if len(used) > 1 and isinstance(splits, TrajectorySplit) and any(glob.has_magic(path) for path in paths):
        text = f"files of a pattern are in the order of their names: {'; '.join(describe_feeds(feeds))}"
        assume("file_order", "", text, "list source.paths in order, or set splits: {kind: files, ...}")
