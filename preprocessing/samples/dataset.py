"""Dataset: the samples of one split of one store, normalised, read straight into the batch.

Shapes: B samples, K forecast steps, C channels, F of them forcing, H rows, W columns, S scalars.
"""

from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

from pelagos.preprocessing.config import Config
from pelagos.preprocessing.errors import ConfigError
from pelagos.preprocessing.layout import Layout
from pelagos.preprocessing.location import Location
from pelagos.preprocessing.samples.batch import Batch
from pelagos.preprocessing.samples.batch_scaling import Scaling
from pelagos.preprocessing.samples.fill_kernels import Planes, Task, fill_samples
from pelagos.preprocessing.samples.lanes import Lanes
from pelagos.preprocessing.samples.normalize import Normalizer
from pelagos.preprocessing.samples.sample_index import Ints, PairIndex, PairSampling, Sampling, index_pairs
from pelagos.preprocessing.samples.trajectory_pool import TrajectoryPool
from pelagos.preprocessing.store.frames import FrameReader, Gathering
from pelagos.preprocessing.store.remote_reader import RemoteFrames
from pelagos.preprocessing.store.shard_reader import Places, ShardReader
from pelagos.preprocessing.store.store import Store, open_store
from pelagos.preprocessing.variables import keys, with_role

Frames = NDArray[np.float32]
Flags = NDArray[np.bool_]
_GROUP_BYTES = 2 << 20  # of samples that are read, then normalised while a core's cache still holds them


class SamplesConfig(Config):
    """What makes a sample, wherever the frames come from.

    Attributes:
        sampling: which of the frames' pairs, or windows, are samples. In a store of steady problems every
            trajectory is one sample with lead time 1, whatever the sampling.
        time_scale: duration of lead time 1; the distance of two frames by default.
        time_unit: of `time_scale`: that of the data, or their frames.
        weight: how often a mixture takes a sample of this dataset, relative to the others.
    """

    sampling: Sampling = PairSampling()
    time_scale: PositiveFloat | None = None
    time_unit: Literal["physical", "frames"] = "physical"
    weight: PositiveFloat = 1.0


class DatasetConfig(SamplesConfig):
    """Samples of one store.

    Attributes:
        path: of the store, or its URL.
        split: which frames.
        num_trajectories: only the first so many trajectories of the split.
        limit: at most so many samples, spread evenly: for validation.
        pool: for cold disks and remote stores: so many trajectories are drawn from before others are, and
            each process holds them in memory, read whole. Pays from a dozen samples of a trajectory on.
    """

    kind: Literal["store"] = "store"
    path: Location
    split: Literal["train", "valid", "test"] = "train"
    num_trajectories: PositiveInt | None = None
    limit: PositiveInt | None = None
    pool: NonNegativeInt = 0

    def store(self) -> Store:
        """The store, opened."""
        return open_store(self.path)

    def samples(self, store: Store, normalizer: Normalizer) -> "Dataset":
        """The samples of the opened store."""
        return Dataset(store, self, normalizer)

    def open(self, normalizer: Normalizer | None = None) -> "Dataset":
        """The samples, scaled by the statistics of the store where no normaliser is given."""
        store = self.store()
        return self.samples(store, Normalizer.of(store) if normalizer is None else normalizer)


@dataclass(frozen=True, eq=False)
class Buffers:
    """Memory for B samples of one dataset, filled again and again.

    Attributes:
        inputs: (B, C_in, H, W).
        targets: (B, C_out, H, W), of rollouts (B, K, C_out, H, W).
        mask: in the shape of the targets.
        forcings: (B, K - 1, F, H, W).
    """

    inputs: Frames
    targets: Frames
    mask: Flags
    forcings: Frames

    @cached_property
    def planes(self) -> Planes:
        """The same memory for kernels; pairs are rollouts of one step there."""
        num, fields, points = len(self.inputs), self.inputs.shape[1], prod(self.inputs.shape[2:])
        steps, outputs = self.forcings.shape[1] + 1, self.targets.shape[-3]
        return Planes(
            inputs=self.inputs.reshape(num, fields, points),
            targets=self.targets.reshape(num, steps, outputs, points),
            mask=self.mask.reshape(num, steps, outputs, points),
            forcings=self.forcings.reshape(num, steps - 1, self.forcings.shape[2], points),
        )


@dataclass(frozen=True, eq=False)
class Drawn:
    """The frames that B samples are made of.

    Attributes:
        index: (B, 3) trajectory, initial frame and (last) valid frame.
        leads: (B,) frames of one step.
        times: (B, K + 1) initial frame, then that of each step.
    """

    index: Ints
    leads: Ints
    times: Ints

    @property
    def steps(self) -> int:
        """K, that are forecast."""
        return int(self.times.shape[1]) - 1

    @property
    def positions(self) -> list[tuple[int, int]]:
        """Trajectory and time of each frame."""
        rows = zip(self.index[:, 0].tolist(), self.times.tolist(), strict=True)
        return [(trajectory, time) for trajectory, times in rows for time in times]


class Dataset:
    """Samples by number; safe to share between threads.

    Attributes:
        store: that is read.
        normalizer: as given, for these channels and perhaps others.
        layout: of all its batches.
        sampling: which frames are samples.
        steps: K, forecast steps of a sample, at most.
        num_samples: that there are.
        input_normalizer: of the input channels.
        output_normalizer: of the output channels.
    """

    def __init__(self, store: Store, config: DatasetConfig, normalizer: Normalizer) -> None:
        self.store, self.config, self.normalizer = store, config, normalizer
        prognostic, forcing, diagnostic = (
            with_role(store.variables, role) for role in ("prognostic", "forcing", "diagnostic")
        )
        self._num_prognostic, self._num_forcing = len(prognostic), len(forcing)
        self._steady = not prognostic and store.num_times == 1
        self.layout = Layout(
            dataset=store.dataset,
            inputs=(*prognostic, *store.static_variables, *forcing),
            outputs=(*prognostic, *diagnostic),
            grid=store.grid,
            scalars=store.params,
            time_scale=_time_scale(store, config),
        )
        if not self.layout.inputs or not self.layout.outputs:
            raise ConfigError(f"{store.path}: no variables to predict from, or none to predict")
        self.input_normalizer = normalizer.select(keys(self.layout.inputs))
        self.output_normalizer = normalizer.select(keys(self.layout.outputs))
        self._scaling = Scaling(
            self.input_normalizer,
            self.output_normalizer,
            normalizer.select(keys(forcing)),
            complete=self.complete,
        )
        # Of a steady problem the solution is paired with the fields that it belongs to.
        self.sampling = PairSampling(identity=True) if self._steady else config.sampling
        self.steps = self.sampling.steps
        if self.sampling.kind == "rollouts" and not prognostic:
            raise ConfigError(
                f"{store.path}: a rollout needs prognostic variables, which are input and output"
            )
        self._frames = _pooled(store, config.pool)
        self._index = self._make_index()
        self.num_samples = min(self._index.num_pairs, config.limit or self._index.num_pairs)

    def _make_index(self) -> PairIndex:
        frames = self.store.splits[self.config.split]
        try:
            return index_pairs(frames, self.sampling, self.config.num_trajectories)
        except ConfigError as error:
            raise ConfigError(f"{self.store.path}, split {self.config.split}: {error}") from error

    def pairs(self, samples: Ints) -> Ints:
        """(B, 3) trajectory, initial frame and (last) valid frame of samples (B,)."""
        if self.num_samples < self._index.num_pairs:
            samples = samples * self._index.num_pairs // self.num_samples
        return self._index.pairs(samples)

    @property
    def run_ends(self) -> Ints:
        """(R,) where the samples of each trajectory, or of each run of frames in it, end."""
        # Sample s is pair s * num_pairs // num_samples.
        return -(-self._index.ends * self.num_samples // self._index.num_pairs)

    def describe(self, sample: int) -> str:
        """Where a sample comes from, for messages."""
        return self.locate(*self.pairs(np.array([sample]))[0].tolist())

    def locate(self, trajectory: int, initial: int, valid: int) -> str:
        """Where frames come from, for messages."""
        times = f"{self.store.times[initial]:g}->{self.store.times[valid]:g} {self.store.time_units}"
        return f"dataset {self.layout.dataset}, trajectory {trajectory}, frames {initial}->{valid}, times {times}"

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C_in, H, W)."""
        return (len(self.layout.inputs), *self.layout.grid.shape)

    @property
    def target_shape(self) -> tuple[int, ...]:
        """(C_out, H, W), of windows and rollouts (K, C_out, H, W)."""
        frame = (len(self.layout.outputs), *self.layout.grid.shape)
        return frame if self.sampling.kind == "pairs" else (self.steps, *frame)

    @property
    def forcings_shape(self) -> tuple[int, int, int, int]:
        """(K - 1, F, H, W)."""
        return (self.steps - 1, self._num_forcing, *self.layout.grid.shape)

    @property
    def complete(self) -> bool:
        """Whether no value is missing anywhere, so that masks are true throughout."""
        return self.store.num_missing == 0

    def buffers(self, num: int) -> Buffers:
        """New memory for so many samples."""
        return Buffers(
            inputs=np.empty((num, *self.input_shape), np.float32),
            targets=np.empty((num, *self.target_shape), np.float32),
            mask=np.ones((num, *self.target_shape), bool),
            forcings=np.empty((num, *self.forcings_shape), np.float32),
        )

    def batch(self, samples: Ints) -> Batch:
        """The samples (B,), in new memory."""
        return self.fill(samples, self.buffers(len(samples)))

    def fill(self, samples: Ints, buffers: Buffers, steps: int | None = None) -> Batch:
        """The samples (B,), in the first B places of the buffers, with all or only their first steps.

        Raises:
            DamagedFileError: a shard is missing or damaged.
        """
        drawn = self.draw(samples, steps)
        self.read(drawn, buffers)
        return self.wrap(drawn, buffers)

    def draw(self, samples: Ints, steps: int | None = None) -> Drawn:
        """Which frames make the samples (B,), with all or only their first steps."""
        index, steps = self.pairs(samples), steps or self.steps
        leads = (index[:, 2] - index[:, 1]) // self.steps
        times = index[:, 1, None] + leads[:, None] * np.arange(steps + 1)
        index[:, 2] = times[:, -1]
        return Drawn(index, leads, times)

    def read(self, drawn: Drawn, buffers: Buffers, *, scaled: bool = True, warm: bool = False) -> None:
        """Read samples into the first places of the buffers, for `wrap` here or in another process.

        Args:
            drawn: their frames.
            buffers: to fill.
            scaled: whether to normalise.
            warm: whether memory most likely holds the files, so that they are better mapped than read.

        Raises:
            DamagedFileError: a shard is missing or damaged.
        """
        near, trajectories = self._at_hand(drawn, warm), drawn.index[:, 0]
        num, done = len(trajectories), 0
        if isinstance(near._frames, ShardReader) and (found := near._frames.find(trajectories, drawn.times)):
            if self.store.static_variables:
                for n, trajectory in enumerate(trajectories.tolist()):
                    near._read_static(trajectory, buffers.inputs[n])
            done = self._fill((0, num), buffers, found.places, read=True, scaled=scaled)
        if done == num:
            return
        # What does not lie in one piece, or is not there: then reading it again tells why.
        nowhere, group = Places(drawn.times, drawn.times), max(1, _GROUP_BYTES // self._sample_bytes)
        for start in range(done, num, group):
            rows = start, min(start + group, num)
            for n in range(*rows):
                near._read_sample(int(trajectories[n]), drawn.times[n].tolist(), buffers, n)
            self._fill(rows, buffers, nowhere, read=False, scaled=scaled)

    def _fill(
        self, rows: tuple[int, int], buffers: Buffers, places: Places, *, read: bool, scaled: bool
    ) -> int:
        """See `fill_samples`."""
        scaling = self._scaling
        task = Task(read=read, scaled=scaled, complete=scaling.complete)
        return fill_samples(rows, places, buffers.planes, self._num_prognostic, scaling.scales, task)

    def announce(self, drawn: Drawn) -> None:
        """Tell the system which frames will be read next, for disks to fetch them meanwhile."""
        if isinstance(self._frames, ShardReader):
            for position in drawn.positions:
                self._frames.announce(position)

    @property
    def _sample_bytes(self) -> int:
        shapes = (self.input_shape, self.target_shape, self.forcings_shape)
        return 4 * sum(map(prod, shapes))

    def _at_hand(self, drawn: Drawn, warm: bool) -> "Dataset":
        """This dataset, or a copy that has mapped or fetched the frames of some samples, where that pays."""
        near, static = self, self.store.static_frames
        if isinstance(self._frames, ShardReader):
            if warm:
                near = copy(self)
                near._frames = self._frames.mapped
        elif isinstance(self._frames, Gathering):
            near = copy(self)
            near._frames = self._frames.gather(drawn.positions)
        if self.store.static_variables and isinstance(static, Gathering):
            fields = static.gather([self.store.static_position(i) for i in drawn.index[:, 0].tolist()])
            near = copy(near)
            near.store = replace(self.store, static_frames=fields)
        return near

    def wrap(self, drawn: Drawn, buffers: Buffers, *, scaled: bool = True) -> Batch:
        """The batch of samples that have been read into the buffers, scaled or not."""
        num, steps = len(drawn.index), drawn.steps
        later = slice(num) if self.sampling.kind == "pairs" else (slice(num), slice(steps))
        return Batch(
            layout=self.layout,
            inputs=torch.from_numpy(buffers.inputs[:num]),
            targets=torch.from_numpy(buffers.targets[later]),
            mask=torch.from_numpy(buffers.mask[later]),
            forcings=torch.from_numpy(buffers.forcings[:num, : steps - 1]),
            lead_time=torch.from_numpy(self._lead_times(drawn.leads, steps)),
            scalars=torch.from_numpy(self._scalars(drawn.index[:, 0])),
            index=torch.from_numpy(drawn.index),
            kind=self.sampling.kind,
            scaling=None if scaled else self._scaling,
        )

    def lanes(self, number: int, micro_batch: int, key: tuple[int, ...]) -> Lanes | None:
        """The trajectories that come and go during training, dealt to the micro-batches of a step; None of a store.

        Args:
            number: of the micro-batches.
            micro_batch: samples of each.
            key: decides all that is random.
        """
        return None

    def follow(self, lane: int, held: Ints, coming: Ints) -> None:
        """Have the trajectories of a lane at hand, and those that will come into it next."""

    def lease(self, samples: Ints) -> object:
        """What keeps samples at hand until they are read, for those that nothing else would keep."""
        return None

    def release(self) -> None:
        """Nobody reads any more, for now."""

    def close(self) -> None:
        """Nobody will read again."""

    def _lead_times(self, lead: Ints, steps: int) -> Frames:
        """(B,), or (B, K) of windows."""
        if self._steady:
            return np.ones(len(lead), np.float32)
        frames = lead[:, None] * np.arange(1, steps + 1) if self.sampling.kind == "windows" else lead
        return (frames * (self.store.dt / self.layout.time_scale)).astype(np.float32)

    def _read_sample(self, trajectory: int, times: list[int], buffers: Buffers, n: int) -> None:
        """Read a sample frame by frame into its place in the buffers, in physical units."""
        inputs, targets = buffers.inputs[n], buffers.targets[n].reshape(-1, *self.target_shape[-3:])
        before, after = self._num_prognostic, len(inputs) - self._num_forcing
        # A frame is prognostic, forcing, diagnostic. Forcings after a sample's last step nobody looks at.
        unseen = np.empty((self._num_forcing, *self.layout.grid.shape), np.float32)
        between = [*buffers.forcings[n, : len(times) - 2], unseen]
        self._read_state(trajectory, times[0], (inputs[:before], inputs[after:]))
        self._read_static(trajectory, inputs)
        for time, target, forcing in zip(times[1:], targets, between, strict=False):
            self._read_state(trajectory, time, (target[:before], forcing, target[before:]))

    def _read_static(self, trajectory: int, inputs: Frames) -> None:
        """Read the static fields of a trajectory into their place in the inputs of a sample."""
        if num := len(self.store.static_variables):
            self._static_fields(trajectory, inputs[self._num_prognostic :][:num])

    def _static_fields(self, trajectory: int, out_CHW: Frames) -> None:
        self.store.static_frames.read_frame(self.store.static_position(trajectory), [out_CHW])

    def _scalars(self, trajectories: Ints) -> Frames:
        return self.store.scalar_values[trajectories].astype(np.float32)

    def _read_state(self, trajectory: int, frame: int, parts: tuple[Frames, ...]) -> None:
        buffers = [part for part in parts if len(part)]
        if buffers:
            self._frames.read_frame((trajectory, frame), buffers)


def _pooled(store: Store, size: int) -> FrameReader:
    if not size:
        return store.frames
    if isinstance(store.frames, ShardReader | RemoteFrames) and store.frames.layout.cells[1] > 1:
        raise ConfigError(
            f"pool: a trajectory of {store.path} spans several shards: too long to be held whole"
        )
    shape = (store.num_times, len(store.variables), *store.grid.shape)
    return TrajectoryPool(store.frames, shape, size)


def _time_scale(store: Store, config: DatasetConfig) -> float:
    if config.time_scale is None:
        return store.dt
    return config.time_scale * (store.dt if config.time_unit == "frames" else 1.0)
