"""Files of `torch.save`: dictionaries of tensors, mapped into memory and read without running any code."""

import re
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError  # noqa: TID251  # only the error, which torch raises too
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pelagos.preprocessing.assumptions import assume
from pelagos.preprocessing.errors import DamagedFileError, DataError
from pelagos.preprocessing.sources.absence import refuse_holes
from pelagos.preprocessing.sources.arrays.array_reader import FileArray, Index, take_block
from pelagos.preprocessing.sources.file_source import missing
from pelagos.preprocessing.sources.left_out_arrays import say_no_numbers

BEFORE_1_6 = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."
"""How torch.save began before version 1.6: its magic number as a pickle."""


@dataclass(frozen=True)
class TorchTensor(FileArray):
    """One tensor of a `.pt` file, mapped into memory at each access."""

    path: Path

    def read(self, index: Index) -> NDArray[Any]:
        """The block at `index`."""
        return np.array(_block(_load(self.path)[self.key].detach(), index))


def tensors(path: Path) -> dict[str, TorchTensor]:
    """The tensors of a dictionary in a `.pt` file, by key; reads none.

    Raises:
        MissingFileError: if there is no such file.
        DamagedFileError: if it is not a whole file of torch.save.
        DataError: if it holds anything but tensors in a dictionary.
    """
    # Imported here, since workers that build from other formats start in half the time without torch.
    from torch import Tensor

    if path.is_file():
        refuse_holes(path)
    content = _load(path)
    kinds = {str(key): type(one).__name__ for key, one in content.items() if not isinstance(one, Tensor)}
    say_no_numbers(path, kinds)
    return {
        str(key): TorchTensor(path, str(key), tuple(value.shape), _type_of(value))
        for key, value in content.items()
        if isinstance(value, Tensor) and _is_readable(path, str(key), value)
    }


def _block(value: Any, index: Index) -> NDArray[Any]:
    """A block of a tensor without gradients; NumPy has no bfloat16 or 8-bit floats, which become float32."""
    import torch

    value = value.resolve_conj().resolve_neg()
    if value.dtype == torch.bfloat16:
        # The upper half of a float32 with the same value.
        halves = take_block(value.contiguous().view(torch.int16).numpy(), index)
        return (halves.astype(np.uint16).astype(np.uint32) << 16).view(np.float32)
    return take_block((value.float() if _is_narrow(value) else value).numpy(), index)


def _is_narrow(value: Any) -> bool:
    return bool(value.dtype.is_floating_point) and (
        value.dtype.itemsize == 1 or "bfloat16" in str(value.dtype)
    )


def _type_of(value: Any) -> np.dtype[Any]:
    import torch

    if _is_narrow(value):
        return np.dtype(np.float32)
    return np.asarray(torch.empty(0, dtype=value.dtype).numpy()).dtype


def _is_readable(path: Path, key: str, value: Any) -> bool:
    """Whether a tensor is a plain array; others (sparse, quantised, nested) are left out, and named."""
    import torch

    plain = value.layout == torch.strided and not value.is_quantized and not value.is_nested
    if not plain:
        kind = "quantised" if value.is_quantized else "nested" if value.is_nested else "sparse"
        assume("fields_not_read", key, f"{path}: {key} is {kind}; save a dense tensor of it", "save it anew")
    return plain


def _load(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise missing(path)
    with path.open("rb") as file:
        if file.read(len(BEFORE_1_6)) == BEFORE_1_6:
            raise DataError(
                f"{path}: saved by torch before 1.6, or with _use_new_zipfile_serialization=False, in a form that"
                f" cannot be read in parts; save it anew: torch.save(torch.load('{path}', weights_only=True), NEW)"
            )
    # torch.save writes a zip file, whose table stands at the end: a truncated one has none.
    if not zipfile.is_zipfile(path):
        writer = "numpy.savez" if path.suffix == ".npz" else "torch.save"
        raise DamagedFileError(f"{path}: not a whole file of {writer}; download or create it again")
    import torch

    try:
        # weights_only: the unpickler builds tensors and plain containers, and calls nothing else.
        with warnings.catch_warnings():
            # It warns that checking sparse tensors takes time; they are left out.
            warnings.filterwarnings("ignore", "Validating sparse", UserWarning)
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except RuntimeError as error:
        raise DamagedFileError(f"{path}: its tensors are damaged; download or create it again") from error
    except UnpicklingError as error:
        # Torch advises to load such files with weights_only=False, which runs whatever code is in them.
        what = re.search(r"(?:GLOBAL|Unsupported (?:global|class)) (?:`)?([\w.]+)", str(error))
        named = f" ({what[1]})" if what else ""
        raise DataError(
            f"{path}: holds more than tensors, which is not read{named}; a dictionary of tensors would be right:"
            " torch.save({'x': x, 'y': y}, NEW)"
        ) from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: holds a {type(content).__name__}; a dictionary of tensors would be right")
    return content
