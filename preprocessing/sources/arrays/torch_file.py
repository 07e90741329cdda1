"""Files of `torch.save`: dictionaries of tensors, mapped into memory and read without running any code."""

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError  # noqa: TID251  # only the error, which torch raises too
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pelagos.preprocessing.errors import DamagedFileError, DataError
from pelagos.preprocessing.sources.arrays.array_reader import FileArray, Index, take_block
from pelagos.preprocessing.sources.file_source import missing


@dataclass(frozen=True)
class TorchTensor(FileArray):
    """One tensor of a `.pt` file, mapped into memory at each access."""

    path: Path

    def read(self, index: Index) -> NDArray[Any]:
        """The block at `index`."""
        return np.array(take_block(_load(self.path)[self.key].numpy(), index))


def tensors(path: Path) -> dict[str, TorchTensor]:
    """The tensors of a dictionary in a `.pt` file, by key; reads none.

    Raises:
        MissingFileError: if there is no such file.
        DamagedFileError: if it is not a whole file of torch.save.
        DataError: if it holds anything but tensors in a dictionary.
    """
    # Imported here, since workers that build from other formats start in half the time without torch.
    from torch import Tensor

    return {
        str(key): TorchTensor(path, str(key), tuple(value.shape), value.numpy().dtype)
        for key, value in _load(path).items()
        if isinstance(value, Tensor)
    }


def tensor(path: Path, held: Mapping[str, TorchTensor], key: str) -> TorchTensor:
    """The tensor of that key; raises DataError, which lists what there is, if there is none."""
    if key not in held:
        raise DataError(f"{path}: no tensor '{key}'; it holds {', '.join(held) or 'nothing'}")
    return held[key]


def _load(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise missing(path)
    # torch.save writes a zip file, whose table stands at the end: a truncated one has none.
    if not zipfile.is_zipfile(path):
        raise DamagedFileError(f"{path}: not a whole file of torch.save; download or create it again")
    import torch

    try:
        # weights_only: the unpickler builds tensors and plain containers, and calls nothing else.
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except RuntimeError as error:
        raise DamagedFileError(f"{path}: cannot be read ({error})") from error
    except UnpicklingError as error:
        raise DataError(f"{path}: holds more than tensors, which is not read ({error})") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: holds a {type(content).__name__}; a dictionary of tensors would be right")
    return content
