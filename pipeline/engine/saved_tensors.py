"""Saved tensors: those of a checkpoint, read piece by piece, whichever process wrote which."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import torch
from pydantic import Field, NonNegativeInt, PositiveInt, ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from pelagos.preprocessing.config import Config
from pelagos.preprocessing.errors import DamagedFileError

_OPEN_FILES = 64
TensorGroups = dict[str, dict[str, Tensor]]


def file_of(rank: int) -> str:
    """The file that a process writes its pieces to."""
    return f"rank-{rank:05d}.safetensors"


class Cut(Config):
    """How a flattened tensor is cut over files.

    Attributes:
        shape: the tensor's.
        runs: first file, number of successive files, and elements in each, in the order of the elements. Equal pieces
            are told once: at ZeRO 3 a thousand processes hold a piece of every tensor.
    """

    shape: tuple[int, ...]
    runs: tuple[tuple[NonNegativeInt, PositiveInt, PositiveInt], ...]


class PieceMap(Config):
    """Which tensors of a checkpoint lie where.

    In a file, a tensor or its piece is called GROUP/NAME.

    Attributes:
        groups: groups of tensors that are cut alike, and the prefixes that their names have there: `moments` holds
            `exp_avg.NAME` and `exp_avg_sq.NAME` for each name of `cuts`.
        cuts: how each tensor is cut.
        whole: names by group of those that the first file holds whole.
        completed_by: for a group, the one that holds what it lacks: frozen weights are saved once.
    """

    groups: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    cuts: dict[str, Cut] = Field(default_factory=dict)
    whole: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    completed_by: dict[str, str] = Field(default_factory=dict)


@dataclass(frozen=True)
class Share:
    """What one process writes of a checkpoint.

    Attributes:
        tensors: by their names in the file.
        pieces: the map of all processes' files; only rank 0's is used.
    """

    tensors: dict[str, Tensor]
    pieces: PieceMap = field(default_factory=PieceMap)


def whole_share(groups: TensorGroups) -> Share:
    """Whole tensors, by group and name, as one process writes them."""
    tensors = {
        f"{group}/{name}": tensor.contiguous()
        for group, named in groups.items()
        for name, tensor in named.items()
    }
    return Share(tensors, PieceMap(whole={group: tuple(named) for group, named in groups.items()}))


@dataclass(frozen=True)
class _Piece:
    """A run of a flattened tensor's elements: the file and name it has there, and the first element's position."""

    file: str
    key: str
    origin: int
    size: int


class SavedTensors:
    """The tensors of a checkpoint, by group and name.

    Files are mapped into memory, so that reading a piece takes no memory for the rest.

    Attributes:
        groups: the names of the groups.
    """

    def __init__(self, path: Path, values: Mapping[str, Any]) -> None:
        """Open a checkpoint's tensors.

        Args:
            path: of the checkpoint.
            values: of its `state.json`.

        Raises:
            DamagedFileError: its map of pieces makes no sense.
        """
        self._path, self._files = path, dict[str, Any]()
        self._map: PieceMap | None = None
        if "pieces" not in values:
            # Rank 0 alone wrote earlier ones: whole tensors, and one file for each group.
            self.groups = sorted(Path(name).stem for name in values["sha256"])
            return
        try:
            self._map = PieceMap.model_validate(values["pieces"])
        except ValidationError as error:
            raise DamagedFileError(f"checkpoint {path}: state.json has no map of pieces: {error}") from error
        self.groups = sorted({*self._map.groups, *self._map.whole})

    def names(self, group: str) -> list[str]:
        """The names of a group's tensors."""
        if self._map is None:
            return list(self._file(f"{group}.safetensors").keys())
        cut = [prefix + name for prefix in self._map.groups.get(group, ()) for name in self._map.cuts]
        own, others = (self._map.whole.get(g, ()) for g in (group, self._map.completed_by.get(group, "")))
        return list(dict.fromkeys([*cut, *own, *others]))

    def read(self, group: str, name: str, origin: int, size: int) -> Tensor:
        """So many elements of a flattened tensor from a position on; a view of the file where they are one piece.

        Raises:
            DamagedFileError: the files do not hold them.
        """
        _, pieces = self._pieces(group, name, origin, origin + size)
        found = [
            self._flat(piece)[max(origin - piece.origin, 0) : origin + size - piece.origin]
            for piece in pieces
        ]
        if sum(map(len, found)) != size:
            raise DamagedFileError(f"checkpoint {self._path}: {group} lacks elements of {name}")
        return found[0] if len(found) == 1 else torch.cat(found) if found else torch.empty(0)

    def tensor(self, group: str, name: str) -> Tensor:
        """A whole tensor; raises as `read`."""
        shape, _ = self._pieces(group, name, 0, 0)
        return self.read(group, name, 0, prod(shape)).view(shape)

    def group(self, group: str) -> dict[str, Tensor]:
        """All tensors of a group by name."""
        return {name: self.tensor(group, name) for name in self.names(group)}

    def _pieces(self, group: str, name: str, first: int, last: int) -> tuple[tuple[int, ...], list[_Piece]]:
        """The shape of a tensor, and the pieces that hold its elements from the first to before the last."""
        key = f"{group}/{name}"
        if self._map is not None:
            for prefix in self._map.groups.get(group, ()):
                if name.startswith(prefix) and (cut := self._map.cuts.get(name.removeprefix(prefix))):
                    return cut.shape, list(_overlapping(cut, key, first, last))
            if name not in self._map.whole.get(group, ()) and group in self._map.completed_by:
                key = f"{self._map.completed_by[group]}/{name}"
        file, key = (file_of(0), key) if self._map else (f"{group}.safetensors", name)
        shape = tuple(self._guarded(lambda: self._file(file).get_slice(key).get_shape()))
        return shape, [_Piece(file, key, 0, prod(shape))]

    def _flat(self, piece: _Piece) -> Tensor:
        tensor: Tensor = self._guarded(lambda: self._file(piece.file).get_tensor(piece.key))
        if tensor.numel() != piece.size:
            raise DamagedFileError(
                f"checkpoint {self._path}: {piece.file} holds another piece of {piece.key}"
            )
        return tensor.reshape(-1)

    def _file(self, name: str) -> Any:
        if name not in self._files:
            # A thousand processes leave a thousand files, more than a process may have open on many systems.
            while len(self._files) >= _OPEN_FILES:
                del self._files[next(iter(self._files))]
            self._files[name] = self._guarded(lambda: safe_open(self._path / name, framework="pt"))
        return self._files[name]

    def _guarded(self, read: Callable[[], Any]) -> Any:
        try:
            return read()
        except (SafetensorError, FileNotFoundError) as error:
            raise DamagedFileError(
                f"checkpoint {self._path}: cannot be read as safetensors: {error}"
            ) from error


def _overlapping(cut: Cut, key: str, first: int, last: int) -> Iterator[_Piece]:
    """The pieces of a tensor that hold its elements from the first to before the last."""
    origin = 0
    for rank, count, size in cut.runs:
        # Counted, not gone through one by one: there may be a piece for each of a thousand files.
        begin, end = max((first - origin) // size, 0), min(-(-(last - origin) // size), count)
        for number in range(begin, end):
            yield _Piece(file_of(rank + number), key, origin + number * size, size)
        origin += count * size
