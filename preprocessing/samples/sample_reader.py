"""Sample reader: the frames of samples, read into the buffers of a batch.

Shapes: B samples, K forecast steps, C channels, F of them forcing, H rows, W columns.
"""

from dataclasses import dataclass

import numpy as np

from pelagos.preprocessing.array_types import Float32s
from pelagos.preprocessing.samples.batch_buffers import BatchBuffers
from pelagos.preprocessing.samples.batch_scaling import BatchScaling
from pelagos.preprocessing.samples.fill_kernels import FillTask, fill_samples
from pelagos.preprocessing.samples.sample_index import SampleFrames
from pelagos.preprocessing.store.frame_reader import FrameLocations, FrameReader, Position

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
        if located := state.locate(trajectories, frames.times):
            if self.num_static:
                for inputs, trajectory in zip(buffers.inputs, trajectories.tolist(), strict=False):
                    self._read_static(static, trajectory, inputs)
            done = self._fill((0, num), buffers, located.locations, read=True, scaled=scaled)
        if done == num:
            return
        # Frames that lie in several chunks, are encoded or are not in files. Those that the kernel could not read
        # come here too: reading them again says what is wrong.
        nowhere = FrameLocations(frames.times, frames.times)
        group = max(1, _GROUP_BYTES // buffers.sample_bytes)
        for start in range(done, num, group):
            rows = start, min(start + group, num)
            for n in range(*rows):
                trajectory, times = int(trajectories[n]), frames.times[n].tolist()
                self._read_initial(state, trajectory, times[0], buffers.inputs[n])
                self._read_static(static, trajectory, buffers.inputs[n])
                self._read_later(state, trajectory, times[1:], buffers, n)
            self._fill(rows, buffers, nowhere, read=False, scaled=scaled)

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

    def _read_initial(self, state: FrameReader, trajectory: int, time: int, inputs_CHW: Float32s) -> None:
        """Read the initial frame of a sample into its place in the inputs."""
        first_forcing = len(inputs_CHW) - self.num_forcing
        _read(state, (trajectory, time), inputs_CHW[: self.num_prognostic], inputs_CHW[first_forcing:])

    def _read_later(
        self, state: FrameReader, trajectory: int, times: list[int], buffers: BatchBuffers, n: int
    ) -> None:
        """Read the frames that sample n forecasts into its targets and forcings."""
        targets = buffers.targets[n].reshape(-1, *buffers.targets.shape[-3:])
        # Buffers are filled one after the other, so the forcing of the last step, which no sample has, needs a place.
        unused = np.empty((self.num_forcing, *targets.shape[-2:]), np.float32)
        forcings = [*buffers.forcings[n, : len(times) - 1], unused]
        before = self.num_prognostic
        for time, target, forcing in zip(times, targets, forcings, strict=False):
            _read(state, (trajectory, time), target[:before], forcing, target[before:])


def _read(reader: FrameReader, position: Position, *buffers: Float32s) -> None:
    if parts := [buffer for buffer in buffers if len(buffer)]:
        reader.read_frame(position, parts)
