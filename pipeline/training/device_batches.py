"""Device batches: batches come to a GPU on a stream of their own, while it computes with those before."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import torch

from pelagos.preprocessing.samples.batch import Batch, LoadedBatch

_Pair = tuple[LoadedBatch, Batch]


class CopyStream(Protocol):
    """Where copies to a device are queued, beside what it computes."""

    def copying(self) -> AbstractContextManager[object]:
        """The context in which copies are queued here."""
        ...

    def hand_over(self, batch: Batch) -> None:
        """Let what computes wait for all copies so far, and the batch's memory be free only when it has computed."""
        ...


class CudaCopyStream:
    """A stream of a GPU for copies."""

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)

    def copying(self) -> AbstractContextManager[object]:
        """See CopyStream."""
        return torch.cuda.stream(self._stream)

    def hand_over(self, batch: Batch) -> None:
        """See CopyStream."""
        computing = torch.cuda.current_stream()
        computing.wait_stream(self._stream)
        for tensor in (
            batch.inputs,
            batch.targets,
            batch.mask,
            batch.forcings,
            batch.lead_time,
            batch.scalars,
        ):
            # It was allocated for the stream of copies, whose next batch would otherwise be given the same memory.
            tensor.record_stream(computing)


class DeviceBatches:
    """A loader's batches on the device; one is brought there ahead, which takes the memory of one more.

    On the CPU there is nothing to bring, and no batch is taken before it is needed.
    """

    def __init__(
        self, stream: Iterator[LoadedBatch], device: torch.device, copies: CopyStream | None = None
    ) -> None:
        """Take batches from a loader.

        Args:
            stream: of the loader.
            device: where they are wanted.
            copies: where copies are queued; by default a stream of the device, if it is a GPU.
        """
        self._stream, self._device = stream, device
        self._copies = copies or (CudaCopyStream(device) if device.type == "cuda" else None)
        self._ahead: _Pair | None = None
        self._failure: Exception | None = None

    def take(self) -> _Pair:
        """The next batch, as it was loaded and on the device; what was loaded is valid until the next is asked for.

        Raises:
            DamagedFileError: it cannot be read.
        """
        if self._failure is not None:
            raise self._failure
        pair = self._ahead or self._next()
        assert pair is not None, "the loader has no more batches"
        self._ahead = None
        if self._copies is not None:
            self._copies.hand_over(pair[1])
        return pair

    def fetch(self) -> None:
        """Queue the copy of the next batch, if there is one: the device may still compute with the last."""
        if self._copies is None or self._ahead is not None or self._failure is not None:
            return
        try:
            self._ahead = self._next()
        except Exception as error:  # of the next batch, which the step in hand does not need
            self._failure = error

    def _next(self) -> _Pair | None:
        # The loader asks on the stream of copies, too, when the memory of the batch before may be filled again.
        with nullcontext() if self._copies is None else self._copies.copying():
            loaded = next(self._stream, None)
            return None if loaded is None else (loaded, loaded.to(self._device))
