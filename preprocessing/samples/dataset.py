"""Dataset: the samples of one split of one store, normalised, read straight into the batch.

Shapes: B samples, K forecast steps, C channels, F of them forcing, H rows, W columns, S scalars.
"""

from collections.abc import Sequence
from dataclasses import replace
from threading import local
from typing import TYPE_CHECKING, Literal, Self, TypedDict

import numpy as np
import torch
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt, model_validator
from torch import Tensor

from pelagos.preprocessing.array_types import Float32s, Ints
from pelagos.preprocessing.config import Changeable, Config
from pelagos.preprocessing.errors import ConfigError
from pelagos.preprocessing.files.location import Location
from pelagos.preprocessing.layout import Layout
from pelagos.preprocessing.samples.augment_config import AugmentConfig
from pelagos.preprocessing.samples.batch import Batch, BatchScaling, Kind, UnscaledBatch
from pelagos.preprocessing.samples.normalize import Normalizer, constant_outputs
from pelagos.preprocessing.samples.sample_index import (
    PairSampling,
    SampleFrames,
    SampleIndex,
    Sampling,
    first_trajectories,
    index_samples,
)
from pelagos.preprocessing.samples.sample_reader import BatchBuffers, SampleReader, SampleShapes
from pelagos.preprocessing.store.frame_reader import FrameReader
from pelagos.preprocessing.store.sample_store import SampleStore
from pelagos.preprocessing.store.shard_checks import Verify
from pelagos.preprocessing.store.shard_layout import TypeName
from pelagos.preprocessing.store.store import Store, open_store
from pelagos.preprocessing.variables import Variable, keys, with_role

if TYPE_CHECKING:  # only simulations have lanes, and only stores in 16 bits a coding
    from pelagos.preprocessing.samples.lanes import Lanes
    from pelagos.preprocessing.store.coding import Coding


class SamplesConfig(Config):
    """What makes a sample, wherever the frames come from.

    Attributes:
        sampling: which pairs or windows of frames are samples. In a store of steady problems each trajectory is one
            sample with lead time 1, whatever the sampling.
        time_scale: duration of lead time 1; the time from one frame to the next by default.
        time_unit: of `time_scale`: the data's unit of time, or frames.
        history: how long before the initial frame further frames lie that the network sees, such as [1, 6]; of
            rollouts, 1, 2, ... times their lead [frames].
        valid_forcing: whether the network sees forcings at the time that it forecasts, too.
        weight: how often a mixture takes a sample of this dataset, relative to the others.
        augment: symmetries by which samples of training are transformed; never those of validation and evaluation.
    """

    sampling: Sampling = PairSampling()
    time_scale: PositiveFloat | None = None
    time_unit: Literal["physical", "frames"] = "physical"
    history: tuple[PositiveInt, ...] = ()
    valid_forcing: bool = False
    weight: PositiveFloat = 1.0
    augment: AugmentConfig = AugmentConfig()

    @model_validator(mode="after")
    def _history_goes_back(self) -> Self:
        if sorted(set(self.history)) != list(self.history):
            raise ValueError(f"history {list(self.history)} must go further back each time, such as [1, 6]")
        return self

    @property
    def reach(self) -> int:
        """How far before its initial frame a sample begins [frames]."""
        return max(self.history, default=0)


class DatasetConfig(SamplesConfig):
    """Samples of one store.

    Attributes:
        path: the store's path or URL.
        split: the split whose frames are used.
        num_trajectories: how many trajectories of the split, from the first on; all by default. Of a training split,
            the store's statistics are then those of these alone.
        limit: how many samples at most, spread evenly over the split: for validation.
        pool: for cold disks and servers: each process reads so many trajectories whole, holds them in memory, and
            draws all their samples before it goes on to others. It pays from a dozen samples a trajectory on.
        verify: what of the store is compared with its checksums: `opening` all but the contents of shards, when it is
            opened; `frames` these too, each shard before its first frame is used; `none` nothing.
    """

    kind: Literal["store"] = "store"
    path: Location
    split: Literal["train", "valid", "test"] = "train"
    num_trajectories: PositiveInt | None = None
    limit: PositiveInt | None = None
    pool: NonNegativeInt = 0
    verify: Changeable[Verify] = "opening"

    def store(self) -> Store:
        """The opened store, with the statistics of the trajectories that train: of others nothing is known.

        Raises:
            ConfigError: it has fewer trajectories than are asked for.
        """
        store = open_store(self.path, self.verify)
        if self.split != "train" or self.num_trajectories is None:
            return store  # statistics are of the training split, whatever is scored
        frames = store.splits["train"]
        try:
            chosen = first_trajectories(frames, self.num_trajectories)
        except ConfigError as error:
            raise ConfigError(f"{store.label}, split train: {error}") from error
        if np.array_equal(chosen, frames):
            return store
        # Loaded where a choice asks for it: most datasets have the statistics of their store.
        from pelagos.preprocessing.samples.chosen_statistics import chosen_statistics

        return replace(store, stats=chosen_statistics(store, chosen))

    def samples(self, store: SampleStore, normalizer: Normalizer) -> "Dataset":
        """The samples of the opened store."""
        return Dataset(store, self, normalizer)

    def open(self, normalizer: Normalizer | None = None) -> "Dataset":
        """The samples, scaled by the statistics of the store where no normaliser is given."""
        store = self.store()
        return self.samples(store, Normalizer.of(store) if normalizer is None else normalizer)


class _SharedFields(TypedDict):
    """What scaled and unscaled batches have in common."""

    layout: Layout
    inputs: Tensor
    targets: Tensor
    forcings: Tensor
    lead_time: Tensor
    scalars: Tensor
    index: Tensor
    kind: Kind


class Dataset:
    """Samples by number; safe to share between threads.

    Attributes:
        store: the store that frames are read from.
        config: what makes a sample.
        normalizer: the scales of these channels and perhaps of others, as given.
        layout: what the channels of its batches are.
        sampling: which frames are samples.
        steps: K, the forecast steps of a sample, of which a curriculum may use fewer.
        num_samples: how many samples there are.
        augmentation: what transforms samples of training; None of another split.
        rows: which rows of its fields its batches have; None for all.
        shapes: shapes of a sample's parts.
        input_normalizer: scales of the input channels.
        output_normalizer: scales of the output channels.
    """

    def __init__(self, store: SampleStore, config: DatasetConfig, normalizer: Normalizer) -> None:
        self.store, self.config, self.normalizer = store, config, normalizer
        prognostic, forcing, diagnostic = (
            with_role(store.variables, role) for role in ("prognostic", "forcing", "diagnostic")
        )
        self._steady = not prognostic and store.num_times == 1
        outputs = (*prognostic, *diagnostic)
        self.layout = Layout(
            dataset=store.dataset,
            inputs=(*prognostic, *store.static_variables, *forcing),
            outputs=outputs,
            grid=store.grid,
            scalars=store.params,
            time_scale=_time_scale(store, config),
            at_rest=constant_outputs(store, normalizer, outputs),
            history=config.history,
            sees_valid_forcing=config.valid_forcing,
        )
        if not self.layout.inputs or not self.layout.outputs:
            raise ConfigError(f"{store.label}: no variables to predict from, or none to predict")
        # A steady problem has one frame: its solution is paired with the static fields that it belongs to.
        self.sampling = PairSampling(identity=True) if self._steady else config.sampling
        self.steps = self.sampling.steps
        if self.sampling.kind == "rollouts" and not prognostic:
            raise ConfigError(
                f"{store.label}: a rollout needs prognostic variables, which are input and output"
            )
        self._check_inputs(forcing)
        self.input_normalizer = normalizer.select(keys(self.layout.inputs))
        self.output_normalizer = normalizer.select(keys(self.layout.outputs))
        self.rows: range | None = None  # see `share`
        self._num_forcing = len(forcing)
        self.shapes = self._make_shapes(store.grid.shape)
        self._scratch = local()
        self._scaling = BatchScaling(
            self.input_normalizer,
            self.output_normalizer,
            normalizer.select(keys(forcing)),
            complete=self.complete,
            codings=_codings(store, self.layout, forcing),
        )
        self._reader = SampleReader(
            state=_state_reader(store, config.pool),
            static=store.static_frames,
            num_prognostic=len(prognostic),
            num_static=len(store.static_variables),
            num_forcing=len(forcing),
            scaling=self._scaling,
        )
        self.augmentation = config.augment.build(store) if config.split == "train" else None
        self._index = self._make_index()
        self.num_samples = min(self._index.num_samples, config.limit or self._index.num_samples)

    def _check_inputs(self, forcing: Sequence[Variable]) -> None:
        """Check that the frames and forcings that networks are to see exist.

        Raises:
            ConfigError: they do not.
        """
        history, label = self.config.history, self.store.label
        if self._steady and (history or self.config.valid_forcing):
            raise ConfigError(f"{label}: history and valid_forcing are of fields that evolve in time")
        if self.config.valid_forcing and not forcing:
            raise ConfigError(
                f"{label} has no forcing for valid_forcing to show; build it with forcings: [cos_local_time,"
                " sin_local_time]"
            )
        if history and self.config.augment.galilean and self.sampling.kind != "rollouts":
            raise ConfigError(
                f"{label}: augment.galilean needs frames of history that are steps of a rollout apart"
            )
        lead = self.sampling.spacing
        needed = tuple(lead * step for step in range(1, len(history) + 1))
        # What a rollout has behind it after some steps are its own frames.
        if self.sampling.kind == "rollouts" and history != needed:
            raise ConfigError(
                f"{label}: history {list(history)}: rollouts in steps of {lead} frames need frames as far apart,"
                f" {list(needed)}"
            )

    def share(self, rows: range) -> None:
        """Have batches of these rows alone, whose samples several processes share; layouts are of the whole grid."""
        # Loaded where it is asked for.
        from pelagos.preprocessing.samples.row_reader import RowReader

        height, width = self.layout.grid.shape
        self.rows, self.shapes = rows, self._make_shapes((len(rows), width))
        state, static = (
            RowReader(reader, rows, height) for reader in (self._reader.state, self._reader.static)
        )
        self._row_reader = replace(self._reader, state=state, static=static)

    def _make_shapes(self, grid: tuple[int, int]) -> SampleShapes:
        frame = (len(self.layout.outputs), *grid)
        return SampleShapes(
            inputs=((1 + len(self.config.history)) * len(self.layout.inputs), *grid),
            targets=frame if self.sampling.kind == "pairs" else (self.steps, *frame),
            forcings=(self.steps - 1 + self.config.valid_forcing, self._num_forcing, *grid),
        )

    def _make_index(self) -> SampleIndex:
        frames = self.store.splits[self.config.split]
        try:
            return index_samples(frames, self.sampling, self.config.num_trajectories, self.config.reach)
        except ConfigError as error:
            raise ConfigError(f"{self.store.label}, split {self.config.split}: {error}") from error

    def index(self, samples: Ints) -> Ints:
        """(B, 3) trajectory, initial frame and (last) valid frame of samples (B,)."""
        # A limit takes samples at even distances, the same ones whenever it is applied.
        if self.num_samples < self._index.num_samples:
            samples = samples * self._index.num_samples // self.num_samples
        return self._index.lookup(samples)

    @property
    def run_ends(self) -> Ints:
        """(R,) where the samples of each trajectory, or of each run of frames in it, end."""
        # The inverse of the limit in `index`, rounded up.
        return -(-self._index.ends * self.num_samples // self._index.num_samples)

    @property
    def leads(self) -> tuple[float, float]:
        """The shortest and the longest time from the initial to the (last) valid frame [store.time_units]."""
        if self._steady:
            return self.layout.time_scale, self.layout.time_scale
        shortest, longest = self._index.leads
        return shortest * self.store.dt, longest * self.store.dt

    def describe_frames(self, trajectory: int, initial: int, valid: int) -> str:
        """Where the frames of a sample come from, for messages."""
        times = f"{self.store.times[initial]:g}->{self.store.times[valid]:g} {self.store.time_units}"
        return f"dataset {self.layout.dataset}, trajectory {trajectory}, frames {initial}->{valid}, times {times}"

    @property
    def complete(self) -> bool:
        """Whether no value is missing anywhere, so that masks are true throughout."""
        return self.store.num_missing == 0

    def batch(self, samples: Ints, steps: int | None = None, key: tuple[int, ...] | None = None) -> Batch:
        """The samples (B,) in new memory; the arguments are those of `frames_of`.

        Raises:
            DamagedFileError: a shard is missing or damaged.
        """
        frames, buffers = self.frames_of(samples, steps, key), self.shapes.buffers(len(samples))
        self.read(frames, buffers)
        return self.wrap(frames, buffers)

    def frames_of(
        self, samples: Ints, steps: int | None = None, key: tuple[int, ...] | None = None
    ) -> SampleFrames:
        """Which frames make the samples (B,), with all or only their first steps.

        Args:
            samples: their numbers.
            steps: how many.
            key: decides how the samples are transformed; without one they stay as they are.
        """
        index, steps = self.index(samples), steps or self.steps
        leads = (index[:, 2] - index[:, 1]) // self.steps
        times = index[:, 1, None] + leads[:, None] * np.arange(steps + 1)
        index[:, 2] = times[:, -1]
        frames = SampleFrames(index, leads, times, times[:, :1] - np.array(self.config.history, np.int64))
        if key is None or not self.augmentation:
            return frames
        return replace(frames, transformation=self.augmentation.draw(key, frames, self.store.dt))

    def read(
        self, frames: SampleFrames, buffers: BatchBuffers, *, scaled: bool = True, warm: bool = False
    ) -> None:
        """Read samples into the first places of the buffers, for `wrap` here or in another process.

        Args:
            frames: of the samples.
            buffers: to fill.
            scaled: whether to normalise.
            warm: whether memory most likely holds the files, so that mapping them is quicker than reading.

        Raises:
            DamagedFileError: a shard is missing or damaged.
        """
        if self.rows is None:
            self._reader.read(frames, buffers, scaled=scaled, warm=warm)
            return
        if frames.transformation is None:
            self._row_reader.read(frames, buffers, scaled=scaled, warm=warm)
            return
        # Whole: symmetries move rows, too.
        whole = self._whole_buffers(len(buffers.inputs))
        self._reader.read(frames, whole, scaled=scaled, warm=warm)
        num, rows = len(frames.index), slice(self.rows.start, self.rows.stop)
        for part in (
            ("inputs", "targets", "forcings") if self.complete else ("inputs", "targets", "forcings", "mask")
        ):
            getattr(buffers, part)[:num] = getattr(whole, part)[:num, ..., rows, :]

    def _whole_buffers(self, num: int) -> BatchBuffers:
        """Memory of this thread for batches with all rows."""
        held: BatchBuffers | None = getattr(self._scratch, "buffers", None)
        if held is None or len(held.inputs) != num:
            held = self._scratch.buffers = self._make_shapes(self.layout.grid.shape).buffers(num)
        return held

    def loaded_type(self, *, scaled: bool) -> TypeName:
        """The type in which samples are read: as stored in 16 bits where a device decodes and normalises them."""
        # Symmetries change signs, which means nothing about an offset.
        coded = self.store.frames.coding is not None and not self.augmentation
        return "float16" if coded and not scaled else "float32"

    def announce(self, frames: SampleFrames) -> None:
        """Hint to the system which frames will be read next, for disks to fetch them meanwhile.

        Raises:
            DamagedFileError: a shard is missing or torn.
        """
        (self._reader if self.rows is None else self._row_reader).state.announce(frames.positions())

    def wrap(self, frames: SampleFrames, buffers: BatchBuffers) -> Batch:
        """The batch of samples that have been read into the buffers and scaled."""
        mask = buffers.mask[self._targets_of(frames)]
        return Batch(mask=torch.from_numpy(mask), **self._shared_fields(frames, buffers))

    def wrap_unscaled(self, frames: SampleFrames, buffers: BatchBuffers) -> UnscaledBatch:
        """The batch of samples that have been read into the buffers and not scaled."""
        return UnscaledBatch(scaling=self._scaling, **self._shared_fields(frames, buffers))

    def _shared_fields(self, frames: SampleFrames, buffers: BatchBuffers) -> _SharedFields:
        num, steps = len(frames.index), frames.steps
        return {
            "layout": self.layout,
            "inputs": torch.from_numpy(buffers.inputs[:num]),
            "targets": torch.from_numpy(buffers.targets[self._targets_of(frames)]),
            "forcings": torch.from_numpy(buffers.forcings[:num, : steps - 1 + self.config.valid_forcing]),
            "lead_time": torch.from_numpy(self._lead_times(frames)),
            "scalars": torch.from_numpy(self._transformed_scalars(frames)),
            "index": torch.from_numpy(frames.index),
            "kind": self.sampling.kind,
        }

    def _targets_of(self, frames: SampleFrames) -> tuple[slice, ...]:
        """Which of the buffers' targets have been read."""
        num = slice(len(frames.index))
        return (num,) if self.sampling.kind == "pairs" else (num, slice(frames.steps))

    def lanes(self, number: int, micro_batch: int, key: tuple[int, ...]) -> "Lanes | None":
        """The trajectories that come and go during training, dealt to the micro-batches of a step; None of a store.

        Args:
            number: of the micro-batches.
            micro_batch: samples of each.
            key: decides all that is random.
        """
        return None

    def follow(self, lane: int, held: Ints, coming: Ints) -> None:
        """Have the trajectories of a lane at hand, and those that will come into it next."""

    def request(self, samples: Ints) -> object:
        """What keeps samples at hand until they are read, for those that nothing else would keep."""
        return None

    def release(self) -> None:
        """Let go of what was at hand for reading, until something is read again."""

    def close(self) -> None:
        """End what works for this dataset, which is not read again."""

    def _lead_times(self, frames: SampleFrames) -> Float32s:
        """(B,), or (B, K) of windows."""
        leads = frames.leads
        if self._steady:
            return np.ones(len(leads), np.float32)
        if self.sampling.kind == "windows":
            leads = leads[:, None] * np.arange(1, frames.steps + 1)
        times = leads * (self.store.dt / self.layout.time_scale)
        if frames.transformation is not None:
            times = (times.T * frames.transformation.time_factors).T
        return times.astype(np.float32)

    def _transformed_scalars(self, frames: SampleFrames) -> Float32s:
        scalars = self._scalars(frames.index[:, 0])
        if frames.transformation is None:
            return scalars
        return (scalars * frames.transformation.gains(self.layout.scalars)).astype(np.float32)

    def _scalars(self, trajectories: Ints) -> Float32s:
        return self.store.scalar_values[trajectories].astype(np.float32)


def _codings(store: SampleStore, layout: Layout, forcing: Sequence[Variable]) -> "list[Coding]":
    """Those of the inputs, outputs and forcings; none of a store in float32."""
    state, static = store.frames.coding, store.static_frames.coding
    if state is None:
        return []
    whole = state if static is None else state.join(static)
    order = keys((*store.variables, *store.static_variables))
    return [
        whole.select([order.index(key) for key in keys(variables)])
        for variables in (layout.inputs, layout.outputs, forcing)
    ]


def _state_reader(store: SampleStore, pool: int) -> FrameReader:
    if not pool:
        return store.frames
    if store.frames.splits_trajectories:
        raise ConfigError(
            f"pool: a trajectory of {store.label} spans several shards: too long to be held whole"
        )
    shape = (store.num_times, len(store.variables), *store.grid.shape)
    # Loaded where it is asked for.
    from pelagos.preprocessing.samples.trajectory_pool import TrajectoryPool

    frames = store.frames
    if frames.coding is None:
        return TrajectoryPool(frames, shape, pool)
    from pelagos.preprocessing.store.coded_reader import CodedReader  # of stores in 16 bits alone

    assert isinstance(frames, CodedReader)
    # As it is stored, in half the memory.
    return frames.over(TrajectoryPool(frames.raw, shape, pool, "float16"))


def _time_scale(store: SampleStore, config: DatasetConfig) -> float:
    if config.time_scale is None:
        return store.dt
    return config.time_scale * (store.dt if config.time_unit == "frames" else 1.0)
