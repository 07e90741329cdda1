"""Forecast writer: forecasts on disk, frame by frame, in a folder that takes its name once they are all there.

Shapes: B forecasts of a block, C fields, H rows, W columns.
"""

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray

from pelagos.evaluation.forecast_cf import to_cf
from pelagos.evaluation.forecast_schema import LEAD_TIME, sample_dims, variable_names
from pelagos.preprocessing.files.durable import (
    remove_partials,
    sha256,
    sync_directory,
    sync_tree,
    write_json,
)
from pelagos.preprocessing.store import checksum_list
from pelagos.preprocessing.store.shard_layout import consolidate_metadata
from pelagos.preprocessing.store.shard_stream import ShardStream

Cell = tuple[int, ...]
"""Position of a block in the grid of blocks along the sample dimensions."""
Fields = NDArray[Any] | list[NDArray[Any]]
CHUNK_BYTES = 1 << 17
"""What a chunk of several frames holds at most: enough that readers do not count every small frame."""
SHARD_BYTES = 1 << 30
"""What one forecast has of a field in one file, at most."""
_PLAN = "plan.json"


class ForecastWriter:
    """Writes forecasts block by block, and each block frame by frame.

    What is finished stays when the process is killed: another writer of the same forecasts goes on after it, and ends
    with the same bytes.

    Args:
        path: of the Zarr group.
        template: the forecasts, of whose fields only types, dimensions and attributes are used, see `forecast_schema`.
        block: how many forecasts are written together along each sample dimension.
        fingerprint: of all that decides the values; unfinished forecasts of another one are discarded.
        alone: whether no other process writes blocks of these forecasts, so that partial files are of killed ones.
    """

    def __init__(
        self,
        path: Path,
        template: xr.Dataset,
        block: tuple[int, ...],
        fingerprint: str = "",
        *,
        alone: bool = True,
    ) -> None:
        self._path, self._template = path, template
        self._dims = (*sample_dims(template), LEAD_TIME, "y", "x")
        self._shape = tuple(template.sizes[dim] for dim in self._dims)
        self._block = block
        # Beside the group, whose files are all listed when it is complete.
        self._partial = path.with_name(f".{path.name}.partial")
        self._progress = path.with_name(f".{path.name}.progress")
        self._begin(fingerprint)
        if alone:
            remove_partials(self._partial)

    def is_written(self, cell: Cell) -> bool:
        """Whether a block has been written, perhaps by a process that was killed later."""
        return self._record(cell).is_file()

    @contextmanager
    def block(self, cell: Cell) -> Iterator[Callable[[Fields], None]]:
        """Give a function that takes the frames of a block, one lead time after the other.

        A frame is (B, C, H, W), or a (B, H, W) array of each field.

        The block counts as written when the context ends without an error.
        """
        with ExitStack() as files:
            streams = [
                files.enter_context(_FieldStream(self._partial / name, self._field(name), cell))
                for name in variable_names(self._template)
            ]

            def write(frame: Fields) -> None:
                fields = frame if isinstance(frame, list) else frame.swapaxes(0, 1)
                for field_BHW, stream in zip(fields, streams, strict=True):
                    stream.write(field_BHW)

            yield write
        digests = {
            f"{name}/{key}": digest
            for name, stream in zip(variable_names(self._template), streams, strict=True)
            for key, digest in stream.digests.items()
        }
        write_json(self._record(cell), digests)

    def finish(self) -> None:
        """Give the group its name, in place of older forecasts; all blocks have been written."""
        remove_partials(self._partial)
        digests: dict[str, str] = {}
        for record in sorted(self._progress.glob("block-*.json")):
            digests |= json.loads(record.read_text(encoding="utf-8"))
        others = [name for name in checksum_list.all_files(self._partial) if name not in digests]
        digests |= {name: sha256(self._partial / name) for name in others}
        checksum_list.write_list(self._partial, checksum_list.checksum_text(digests))
        sync_tree(self._partial)
        # A folder cannot be replaced by another in one step, unlike a file: the old one goes when the new has its name.
        replaced = self._path.with_name(f".{self._path.name}.replaced")
        if self._path.exists():
            shutil.rmtree(replaced, ignore_errors=True)
            self._path.rename(replaced)
        os.replace(self._partial, self._path)
        sync_directory(self._path.parent)
        shutil.rmtree(replaced, ignore_errors=True)
        self.discard()

    def discard(self) -> None:
        """Remove what is unfinished."""
        # Records first: without the files they would promise what is not there.
        shutil.rmtree(self._progress, ignore_errors=True)
        shutil.rmtree(self._partial, ignore_errors=True)

    def _record(self, cell: Cell) -> Path:
        return self._progress / f"block-{'-'.join(map(str, cell))}.json"

    def _begin(self, fingerprint: str) -> None:
        plan = self._progress / _PLAN
        if plan.is_file() and self._partial.is_dir():
            if fingerprint and json.loads(plan.read_text(encoding="utf-8"))["fingerprint"] == fingerprint:
                return
            if any(self._progress.glob("block-*.json")):
                print(
                    f"note: {self._path}: unfinished forecasts of another configuration are discarded",
                    file=sys.stderr,
                    flush=True,
                )
        self.discard()
        self._partial.mkdir(parents=True)
        self._write_skeleton()
        write_json(plan, {"fingerprint": fingerprint})

    def _field(self, name: str) -> "_FieldLayout":
        return _FieldLayout(self._shape, self._block, self._template[name].dtype)

    def _write_skeleton(self) -> None:
        """The metadata of all arrays, and the coordinates."""
        described, fields = to_cf(self._template), variable_names(self._template)
        group = zarr.open_group(self._partial, mode="w", zarr_format=3, attributes=described.attrs)
        for name in map(str, described.variables):
            variable = described[name].variable
            if name in fields:
                layout = self._field(name)
                _create(group, name, variable, self._dims, self._shape, layout.chunk, layout.shard)
            else:
                _create(group, name, variable, variable.dims, variable.shape)[...] = variable.values
        consolidate_metadata(self._partial)


class _FieldLayout:
    """How one field is cut into shards, a block of forecasts each, and these into chunks of frames.

    Attributes:
        shape: (*samples, lead time, y, x).
        shard: shape of a shard.
        chunk: shape of a chunk: frames of one forecast.
        dtype: of the values.
    """

    def __init__(self, shape: tuple[int, ...], block: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        *samples, leads, height, width = shape
        frame = max(1, dtype.itemsize * height * width)
        frames = min(leads, max(1, CHUNK_BYTES // frame))
        chunks = min(-(-leads // frames), max(1, SHARD_BYTES // (frames * frame)))
        self.shape, self.dtype = shape, dtype
        self.chunk = (*(1 for _ in samples), frames, height, width)
        self.shard = (*block, frames * chunks, height, width)

    @property
    def counts(self) -> tuple[int, ...]:
        """How many chunks a shard has along each axis."""
        return tuple(shard // chunk for shard, chunk in zip(self.shard, self.chunk, strict=True))

    def samples(self, cell: Cell) -> tuple[int, ...]:
        """The number of forecasts of a block along each sample dimension: fewer at the far ends."""
        axes = zip(self.shape, self.shard, cell, strict=False)
        return tuple(min(shard, size - shard * position) for size, shard, position in axes)


class _FieldStream:
    """Writes one field of a block of forecasts, frame by frame.

    Attributes:
        digests: SHA-256 by file of the field's folder.
    """

    def __init__(self, folder: Path, layout: _FieldLayout, cell: Cell) -> None:
        self._folder, self._layout, self._cell = folder, layout, cell
        self._samples = layout.samples(cell)
        frames, height, width = layout.chunk[-3:]
        self._buffer = np.empty((int(np.prod(self._samples)), frames, height, width), layout.dtype)
        self._steps, self._held = layout.shape[-3], 0
        self._written = 0
        self._files = ExitStack()
        self._shard: ShardStream | None = None
        self.digests: dict[str, str] = {}

    def __enter__(self) -> "_FieldStream":
        return self

    def __exit__(self, *error: Any) -> None:
        if error[0] is None:
            assert self._written == self._steps, "a block is complete when all its frames are written"
        self._files.__exit__(*error)

    def write(self, frame_BHW: NDArray[Any]) -> None:
        """Take the next frame."""
        self._buffer[:, self._held] = frame_BHW
        self._held += 1
        self._written += 1
        if self._held == self._buffer.shape[1] or self._written == self._steps:
            self._write_chunks()

    def _write_chunks(self) -> None:
        frames, chunks = self._layout.chunk[-3], self._layout.counts[-3]
        # The last chunk is whole on disk as well; beyond the forecast's end nothing reads it.
        self._buffer[:, self._held :] = np.nan
        shard, place = divmod((self._written - 1) // frames, chunks)
        key = "/".join(("c", *map(str, (*self._cell, shard, 0, 0))))
        if self._shard is None:
            (self._folder / key).parent.mkdir(parents=True, exist_ok=True)
            self._shard = self._files.enter_context(ShardStream(self._folder / key, self._layout.counts))
        first = (*(0 for _ in self._samples), place, 0, 0)
        self._shard.write(first, self._buffer.reshape(*self._samples, 1, 1, 1, *self._layout.chunk[-3:]))
        self._held = 0
        if place == chunks - 1 or self._written == self._steps:
            self._files.close()
            self.digests[key], self._shard = self._shard.sha256, None


def _create(
    group: zarr.Group,
    name: str,
    variable: xr.Variable,
    dims: tuple[Any, ...],
    shape: tuple[int, ...],
    chunk: tuple[int, ...] = (),
    shard: tuple[int, ...] | None = None,
) -> Any:
    """An array whose bytes do not depend on the defaults of a version of zarr."""
    return group.create_array(
        name,
        shape=shape,
        chunks=chunk or tuple(max(1, size) for size in shape),
        shards=shard,
        dtype=variable.dtype,
        compressors=None,
        # What is missing reads as missing values and never as zeros.
        fill_value=np.nan if variable.dtype.kind == "f" else variable.dtype.type(0),
        dimension_names=[str(dim) for dim in dims],
        attributes=dict(variable.attrs),
        config={"write_empty_chunks": True},
    )
