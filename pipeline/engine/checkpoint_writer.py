"""Checkpoint writer: all processes write a checkpoint together, each what it holds, while training goes on."""

import json
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from threading import Event, Thread
from types import TracebackType
from typing import Any

from safetensors.torch import save_file

from pelagos.pipeline.engine import checkpoint, distributed
from pelagos.pipeline.engine.saved_tensors import Share, file_of
from pelagos.preprocessing.errors import PelagosError
from pelagos.preprocessing.files.durable import (
    give_usual_mode,
    json_checksum,
    sha256,
    sync_directory,
    write_json,
)

_KEYS = "pelagos/checkpoint"
_LONGEST_WRITE, _AFTER_FAILURE = 1800.0, 60.0  # how long rank 0 waits for others' files [s]


class CheckpointWriteError(PelagosError, OSError):
    """A checkpoint could not be written; earlier ones are untouched."""


class Peers:
    """How the processes that write a checkpoint tell rank 0 what they have written.

    Not by collectives, which the training that goes on meanwhile may use, but by the store at which processes have met.

    Attributes:
        hurry: set when training has failed: those that have not written yet may never do so.
    """

    def __init__(self) -> None:
        self.rank, self.world = distributed.rank(), distributed.world()
        self.hurry = Event()
        self._store: distributed.KeyValueStore | None = None

    def gathered(self, step: int, mine: dict[str, Any]) -> list[dict[str, Any]]:
        """What each process says of its file, by rank; empty on all but rank 0.

        Raises:
            CheckpointWriteError: a process says nothing.
        """
        if self.world == 1:
            return [mine]
        if self._store is None:
            self._store = distributed.connect_to_store(_AFTER_FAILURE)
        if self.rank:
            self._store.set(f"{_KEYS}/{self.rank}", json.dumps({**mine, "step": step}))
            return []
        return [mine, *(self._heard(self._store, step, rank) for rank in range(1, self.world))]

    def _heard(self, store: distributed.KeyValueStore, step: int, rank: int) -> dict[str, Any]:
        key, begun, pause = f"{_KEYS}/{rank}", time.monotonic(), 0.001
        while True:
            if store.check([key]):
                said = dict(json.loads(store.get(key)))
                # Or the next checkpoint would find it.
                store.delete_key(key)
                if said["step"] == step:
                    return said
            if time.monotonic() - begun > (_AFTER_FAILURE if self.hurry.is_set() else _LONGEST_WRITE):
                raise CheckpointWriteError(f"rank {rank} has not written its part of step {step}")
            time.sleep(pause)
            pause = min(2 * pause, 0.25)


def save(
    folder: Path, step: int, share: Share, values: Mapping[str, Any], peers: Peers | None = None
) -> None:
    """Write `folder/step-N`, together with the other processes, and name it in `latest.json`.

    On rank 0 it returns when all have written, elsewhere when this process has.

    Args:
        folder: the run's folder of checkpoints.
        step: the number of optimiser steps done.
        share: what this process writes.
        values: anything that JSON can hold; only rank 0's are used.
        peers: the other processes; without, there are none.

    Raises:
        Exception: a file could not be written.
    """
    target, peers = checkpoint.path_of(folder, step), peers or Peers()
    partial = folder / f".{target.name}.partial"
    said, failure = {"sha256": "", "error": ""}, None
    # One that exists is of the same run after the same steps: runs are repeatable, so it is as good.
    if not target.exists():
        try:
            said["sha256"] = _write_share(partial, share, peers.rank)
        except Exception as error:  # told to rank 0 first, which would wait for this file
            failure, said["error"] = error, str(error)
    try:
        heard = peers.gathered(step, said)
        if failure:
            raise failure
        if peers.rank == 0:
            _complete(partial, target, heard, {**values, "step": step, "pieces": share.pieces.model_dump()})
    finally:
        # On a full disk it would take the room that the next attempt needs.
        if peers.rank == 0:
            shutil.rmtree(partial, ignore_errors=True)


def _write_share(folder: Path, share: Share, rank: int) -> str:
    """Write a process's file; returns its checksum."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / file_of(rank)
    save_file(share.tensors, path)
    give_usual_mode(path)
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return sha256(path)


def _complete(partial: Path, target: Path, heard: list[dict[str, Any]], values: dict[str, Any]) -> None:
    """Add the map of all processes' files, and make a checkpoint of them by one rename."""
    if failed := {rank: said["error"] for rank, said in enumerate(heard) if said["error"]}:
        raise CheckpointWriteError("; ".join(f"rank {rank}: {error}" for rank, error in failed.items()))
    if not target.exists():
        state = {**values, "sha256": {file_of(rank): said["sha256"] for rank, said in enumerate(heard)}}
        write_json(partial / checkpoint.STATE, {**state, "checksum": json_checksum(state, finite=False)})
        # Everything is on disk before the rename, so that a folder of this name is always complete.
        partial.rename(target)
        sync_directory(target.parent)
    write_json(target.parent / checkpoint.LATEST, {"checkpoint": target.name})


class CheckpointWriter:
    """Writes a run's checkpoints in a thread, while training goes on. As a context, it ends when all are on disk.

    Tensors must not change once they are handed over.
    """

    def __init__(self, folder: Path, keep: int, *, background: bool = True) -> None:
        self.background = background
        self._folder, self._keep, self._peers = folder, keep, Peers()
        self._thread: Thread | None = None
        self._error: Exception | None = None

    def __enter__(self) -> "CheckpointWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._peers.hurry.set()
        self.wait()

    def save(self, step: int, share: Share, values: Mapping[str, Any]) -> None:
        """Write a checkpoint, together with all other processes, once the one before is written.

        Raises:
            CheckpointWriteError: that one could not be.
        """
        self.wait()
        self._thread = Thread(target=self._write, args=(step, share, values), name="checkpoint")
        self._thread.start()
        if not self.background:
            self.wait()

    def wait(self) -> None:
        """Return when this process has written its part of all checkpoints, on rank 0 when these are on disk.

        Raises:
            CheckpointWriteError: one could not be written.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            raise CheckpointWriteError(
                f"a checkpoint could not be written to {self._folder}: {error}"
            ) from error

    def _write(self, step: int, share: Share, values: Mapping[str, Any]) -> None:
        try:
            save(self._folder, step, share, values, self._peers)
            if self._peers.rank == 0:
                checkpoint.prune(self._folder, self._keep)
        except Exception as error:
            self._error = error
