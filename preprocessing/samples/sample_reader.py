"""Sample reader: the frames of samples, read into the buffers of a batch.

Shapes: B samples, K forecast steps, C channels, F of them forcing, H rows, W columns.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import prod
from time import perf_counter, thread_time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pelagos.preprocessing.array_types import Flags, Float32s
from pelagos.preprocessing.samples.batch import BatchScaling
from pelagos.preprocessing.samples.fill_kernels import FillTask, FlatBuffers, fill_samples
from pelagos.preprocessing.samples.sample_index import SampleFrames
from pelagos.preprocessing.store.frame_reader import FrameLocations, FrameReader, Position
from pelagos.preprocessing.store.shard_layout import TypeName


@dataclass(frozen=True, eq=False)
class BatchBuffers:
    """Memory for B samples of one dataset, which is filled again and again.

    Values are float32, or float16 as a store keeps them.

    Attributes:
        inputs: (B, A C_in, H, W) A frames that are input, the initial one first.
        targets: (B, C_out, H, W), of windows and rollouts (B, K, C_out, H, W).
        mask: which targets exist, in the shape of the targets.
        forcings: (B, K - 1, F, H, W), or (B, K, F, H, W) where networks see those of the valid time.
    """

    inputs: NDArray[Any]
    targets: NDArray[Any]
    mask: Flags
    forcings: NDArray[Any]

    @cached_property
    def flat(self) -> FlatBuffers:
        """The same memory for kernels, to which pairs are rollouts of one step."""
        num, fields, points = len(self.inputs), self.inputs.shape[1], prod(self.inputs.shape[2:])
        outputs, forced = self.targets.shape[-3], self.forcings.shape[1]
        steps = 1 if self.targets.ndim == 4 else self.targets.shape[1]
        return FlatBuffers(
            inputs=self.inputs.reshape(num, fields, points),
            targets=self.targets.reshape(num, steps, outputs, points),
            mask=self.mask.reshape(num, steps, outputs, points),
            forcings=self.forcings.reshape(num, forced, self.forcings.shape[2], points),
        )

    @property
    def sample_bytes(self) -> int:
        """The size of one sample's fields."""
        return (self.inputs.nbytes + self.targets.nbytes + self.forcings.nbytes) // max(1, len(self.inputs))


@dataclass(frozen=True)
class SampleShapes:
    """The shapes of the parts of a sample.

    Attributes:
        inputs: (A C_in, H, W).
        targets: (C_out, H, W), of windows and rollouts (K, C_out, H, W).
        forcings: (K - 1, F, H, W) or (K, F, H, W).
    """

    inputs: tuple[int, int, int]
    targets: tuple[int, ...]
    forcings: tuple[int, int, int, int]

    def buffers(self, num: int, dtype: TypeName = "float32") -> BatchBuffers:
        """New memory for so many samples."""
        return BatchBuffers(
            inputs=np.empty((num, *self.inputs), dtype),
            targets=np.empty((num, *self.targets), dtype),
            mask=np.ones((num, *self.targets), bool),
            forcings=np.empty((num, *self.forcings), dtype),
        )


_GROUP_BYTES = 2 << 20  # of samples that are read, then normalised while a core's cache still holds them


@dataclass(frozen=True, eq=False)
class SampleReader:
    """Reads samples of one dataset; safe to share between threads.

    Attributes:
        state: reads frames at (trajectory, time): prognostic, then forcing, then diagnostic channels.
        static: reads static fields at (trajectory,).
        num_prognostic: channels of the state that are inputs and targets.
        num_static: static channels.
        num_forcing: channels of the state that are inputs alone.
        scaling: normalises.
    """

    state: FrameReader
    static: FrameReader
    num_prognostic: int
    num_static: int
    num_forcing: int
    scaling: BatchScaling

    def read(
        self, frames: SampleFrames, buffers: BatchBuffers, *, scaled: bool = True, warm: bool = False
    ) -> None:
        """Read samples into the first places of the buffers.

        Args:
            frames: of the samples.
            buffers: to fill.
            scaled: whether to normalise.
            warm: whether memory most likely holds the files, so that mapping them is quicker than reading.

        Raises:
            DamagedFileError: a shard is missing or damaged.
        """
        trajectories, num, done = frames.index[:, 0], len(frames.index), 0
        state = self.state.prepare(frames.positions(), warm=warm)
        static = self.static.prepare(((i,) for i in trajectories.tolist()), warm=warm)
        if located := state.locate(trajectories, frames.all_times):
            if self.num_static:
                for inputs, trajectory in zip(buffers.inputs, trajectories.tolist(), strict=False):
                    self._read_static(static, trajectory, inputs)
            done = self._read_located(frames, located.locations, buffers, scaled=scaled)
        if done == num:
            return
        # Frames that lie in several chunks, are encoded or are not in files. Those that the kernel could not read
        # come here too: reading them again says what is wrong.
        for rows in _groups(done, num, buffers):
            for n in range(*rows):
                trajectory, times = int(trajectories[n]), frames.times[n].tolist()
                self._read_inputs(
                    state, trajectory, [times[0], *frames.earlier[n].tolist()], buffers.inputs[n]
                )
                self._read_static(static, trajectory, buffers.inputs[n])
                self._read_later(state, trajectory, times[1:], buffers, n)
            self._finish(rows, buffers, frames, scaled=scaled)

    def _read_located(
        self, frames: SampleFrames, locations: FrameLocations, buffers: BatchBuffers, *, scaled: bool
    ) -> int:
        """Read and finish samples whose static fields are there; returns the first that could not be read whole."""
        num = len(frames.index)
        if frames.transformation is None:
            return self._fill((0, num), buffers, locations, read=True, scaled=scaled)
        for start, stop in _groups(0, num, buffers):
            # Transformed before they are normalised: a sign has no meaning about a mean.
            whole = self._fill((start, stop), buffers, locations, read=True, scaled=False)
            self._finish((start, whole), buffers, frames, scaled=scaled)
            if whole < stop:
                return whole
        return num

    def _finish(
        self, rows: tuple[int, int], buffers: BatchBuffers, frames: SampleFrames, *, scaled: bool
    ) -> None:
        """Transform and normalise samples that have been read as they are stored."""
        if frames.transformation is not None:
            frames.transformation.apply(rows, buffers.flat)
        if buffers.inputs.dtype == np.float16:
            # A device decodes and normalises them: all that is missing is the static fields of earlier frames.
            self._repeat_static(buffers.inputs[slice(*rows)])
            return
        nowhere = FrameLocations(frames.all_times, frames.all_times)
        self._fill(rows, buffers, nowhere, read=False, scaled=scaled)

    def _repeat_static(self, inputs_BCHW: NDArray[Any]) -> None:
        num_inputs = self.num_prognostic + self.num_static + self.num_forcing
        static = slice(self.num_prognostic, self.num_prognostic + self.num_static)
        for first in range(num_inputs, inputs_BCHW.shape[1], num_inputs):
            inputs_BCHW[:, first : first + num_inputs][:, static] = inputs_BCHW[:, static]

    def _fill(
        self,
        rows: tuple[int, int],
        buffers: BatchBuffers,
        locations: FrameLocations,
        *,
        read: bool,
        scaled: bool,
    ) -> int:
        """See `fill_samples`."""
        scaling = self.scaling
        task = FillTask(read=read, scaled=scaled, complete=scaling.complete)
        return fill_samples(rows, locations, buffers.flat, self.num_prognostic, scaling.scales, task)

    def _read_static(self, static: FrameReader, trajectory: int, inputs_CHW: Float32s) -> None:
        """Read the static fields of a sample into their place in its inputs."""
        if self.num_static:
            static.read_frame((trajectory,), [inputs_CHW[self.num_prognostic :][: self.num_static]])

    def _read_inputs(
        self, state: FrameReader, trajectory: int, times: list[int], inputs_CHW: Float32s
    ) -> None:
        """Read the frames that a sample begins with into their places in the inputs."""
        for time, frame in zip(times, np.split(inputs_CHW, len(times)), strict=True):
            first_forcing = len(frame) - self.num_forcing
            _read(state, (trajectory, time), frame[: self.num_prognostic], frame[first_forcing:])

    def _read_later(
        self, state: FrameReader, trajectory: int, times: list[int], buffers: BatchBuffers, n: int
    ) -> None:
        """Read the frames that sample n forecasts into its targets and forcings."""
        targets = buffers.targets[n].reshape(-1, *buffers.targets.shape[-3:])
        # Buffers are filled one after the other: the forcing of the last step needs a place in any case.
        unused = np.empty((self.num_forcing, *targets.shape[-2:]), targets.dtype)
        forcings = [*buffers.forcings[n, : len(times)], unused]
        before = self.num_prognostic
        for time, target, forcing in zip(times, targets, forcings, strict=False):
            _read(state, (trajectory, time), target[:before], forcing, target[before:])


def _groups(start: int, stop: int, buffers: BatchBuffers) -> Iterator[tuple[int, int]]:
    """The first sample of each group, and the one after its last."""
    size = max(1, _GROUP_BYTES // buffers.sample_bytes)
    return ((first, min(first + size, stop)) for first in range(start, stop, size))


def _read(reader: FrameReader, position: Position, *buffers: Float32s) -> None:
    if parts := [buffer for buffer in buffers if len(buffer)]:
        reader.read_frame(position, parts)


class WaitMeter:
    """A context that compares the time its thread spent computing with the time that went by.

    Attributes:
        waited: whether the latest work waited for a fifth of its time or more; true before the first.
    """

    def __init__(self) -> None:
        self.waited = True

    def __enter__(self) -> None:
        self._clock, self._processor = perf_counter(), thread_time()

    def __exit__(self, *_: object) -> None:
        # A thread's own time stands still while it waits.
        self.waited = thread_time() - self._processor < 0.8 * (perf_counter() - self._clock)
