"""BlockWriter: files in the form of an archive, written block by block and visible once they are complete."""

import os
import secrets
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import xarray as xr

from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.files.durable import PARTIAL, sync_directory
from pelagos.preprocessing.sources import convention


class BlockWriter(ABC):
    """One HDF5 file of `num_trajectories` trajectories, visible under its name once it is complete.

        with SomeWriter(path, template, num_trajectories=1000) as writer:
            for block in blocks:
                writer.append(block)

    An existing file of that name is replaced. Fields are stored in float32, as in all archives that can be written.
    """

    def __init__(self, path: str | Path, template: xr.Dataset, num_trajectories: int) -> None:
        """A writer for datasets like `template`, which is in the convention and whose trajectories are not written.

        Raises:
            DataError: if the format cannot hold such a dataset.
        """
        convention.check(template)
        self.path, self.template, self.num_trajectories = Path(path), template, num_trajectories
        self.position = 0
        if "level" in template.dims:
            raise DataError(f"{self.path}: this format has no levels; select one first")
        if "present" in template.coords:
            raise DataError(
                f"{self.path}: all trajectories of a file are equally long; write a file for each length"
            )
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # A hidden name of its own in the same folder: renaming is atomic only within a file system.
        self._temporary = self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}{PARTIAL}")
        self._file: Any = self._open(self._temporary)
        try:
            self._create()
        except BaseException:  # KeyboardInterrupt as well: nothing half made is left
            self._discard()
            raise

    @abstractmethod
    def _open(self, path: Path) -> Any:
        """An empty file to write to."""

    @abstractmethod
    def _create(self) -> None:
        """Lay out the empty file; raise DataError for what it cannot hold."""

    @abstractmethod
    def _put(self, start: int, block: xr.Dataset) -> None:
        """Write the trajectories of `block` at position `start`."""

    def append(self, block: xr.Dataset) -> None:
        """Write the next trajectories.

        Raises:
            DataError: if their variables, grid or times differ from the template's, or if there
                are more of them than were announced.
        """
        self._compare(block)
        stop = self.position + block.sizes["trajectory"]
        if stop > self.num_trajectories:
            raise DataError(f"{self.path}: {stop} trajectories for a file of {self.num_trajectories}")
        self._put(self.position, block)
        self.position = stop

    def _compare(self, block: xr.Dataset) -> None:
        for name, expected in self.template.variables.items():
            if name not in block.variables or block[name].dims != expected.dims:
                raise DataError(f"{self.path}: a block lacks {name} with dims {expected.dims}")
            if name in ("time", "y", "x") and not np.array_equal(block[name].values, expected.values):
                raise DataError(f"{self.path}: a block's {name} differs from the template's")
        if extra := [str(name) for name in block.variables if name not in self.template.variables]:
            raise DataError(f"{self.path}: a block has {', '.join(extra)}, which the template lacks")

    def close(self) -> None:
        """Finish the file and give it its name.

        Raises:
            DataError: if trajectories are missing; then no file is left.
        """
        if self.position != self.num_trajectories:
            self._discard()
            raise DataError(
                f"{self.path}: {self.position} of {self.num_trajectories} trajectories were written"
            )
        self._file.close()
        # The bytes must be on disk before the name is, or a power cut could leave a torn file of that name.
        with self._temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(self._temporary, self.path)
        sync_directory(self.path.parent)

    def _discard(self) -> None:
        self._file.close()
        self._temporary.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._discard()


def write_all(kind: type[BlockWriter], ds: xr.Dataset, path: str | Path) -> None:
    """Write a whole dataset, one trajectory in memory at a time."""
    with kind(path, ds, ds.sizes["trajectory"]) as writer:
        for i in range(ds.sizes["trajectory"]):
            writer.append(ds.isel(trajectory=slice(i, i + 1)))


def single_value(ds: xr.Dataset, name: str, path: Path) -> float:
    """The value of a scalar of which a file holds one for all its trajectories.

    Raises:
        DataError: if it differs between trajectories.
    """
    values = np.unique(ds[name].values)
    if len(values) != 1:
        raise DataError(
            f"{path}: {name} must be the same throughout a file, but is {values.tolist()}; write a file for each value"
        )
    return float(values[0])
