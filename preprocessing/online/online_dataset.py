"""Online data: samples of trajectories that are simulated while a network trains on them.

Shapes: N trajectories, T times, C channels, H rows, W columns, B samples.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from math import prod
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Discriminator, NonNegativeInt, PositiveInt, Tag

from pelagos.preprocessing.array_types import Flags, Float32s, Floats, Ints
from pelagos.preprocessing.assumptions import Assumption
from pelagos.preprocessing.channel_statistics.measures import measure_block, statistics_of
from pelagos.preprocessing.config import Changeable
from pelagos.preprocessing.errors import ConfigError
from pelagos.preprocessing.fields.field_options import FieldOptions
from pelagos.preprocessing.fields.field_reader import FieldReader
from pelagos.preprocessing.fields.select_fields import select_fields
from pelagos.preprocessing.grid import Grid
from pelagos.preprocessing.online.producer import Trajectory
from pelagos.preprocessing.online.simulation import Simulation, template
from pelagos.preprocessing.online.trajectory_supply import TrajectorySupply
from pelagos.preprocessing.physics.equation import declared
from pelagos.preprocessing.physics.symmetry import DeclaredSymmetries
from pelagos.preprocessing.samples.dataset import Dataset, DatasetConfig, SamplesConfig
from pelagos.preprocessing.samples.lanes import Lanes
from pelagos.preprocessing.samples.normalize import Normalizer
from pelagos.preprocessing.samples.sample_index import SampleIndex, index_samples
from pelagos.preprocessing.store.format import SPLITS
from pelagos.preprocessing.store.frame_reader import FrameReader, MemoryReader, scatter
from pelagos.preprocessing.store.sample_store import SampleStore, Statistics
from pelagos.preprocessing.variables import Variable


class OnlineConfig(SamplesConfig):
    """Samples of a simulation that runs beside training and is never written to disk.

    Trajectories are numbered. The first `valid` are held out, training uses those that follow. Each process holds its
    share of the reservoir, while producers simulate what enters it next.

    Attributes:
        simulation: what is simulated; its `dataset` is the name that the model knows.
        reservoir: number of trajectories that samples are drawn from, over all processes.
        uses: samples drawn from a trajectory, on average and at least one, before another takes its place; by default
            as many as it has.
        producers: number of processes that simulate, for each process that trains.
        ahead: trajectories that each process that trains has simulated before they are needed, and holds beside
            its share of the reservoir; by default a batch of the simulation for each producer, and one more.
        valid: trajectories for validation.
        statistics: trajectories whose means and deviations are the scales: the first that train. They are
            simulated, with those for validation, before training begins.
    """

    kind: Literal["online"] = "online"
    simulation: Simulation
    reservoir: PositiveInt = 64
    uses: PositiveInt | None = None
    producers: Changeable[PositiveInt] = 2
    ahead: Changeable[PositiveInt | None] = None
    valid: NonNegativeInt = 8
    statistics: PositiveInt = 16

    @property
    def name(self) -> str:
        """Name of the dataset."""
        return self.simulation.dataset or self.simulation.equation.kind

    @property
    def coming(self) -> int:
        """Number of trajectories that are simulated ahead of their use."""
        return self.ahead or (self.producers + 1) * self.simulation.batch

    def store(self) -> "OnlineStore":
        """The trajectories for validation, simulated as are those for statistics, and the supply of all.

        Raises:
            PelagosError: one of them cannot be simulated.
        """
        described = select_fields(template(self.simulation), FieldOptions())
        supply = TrajectorySupply(self.simulation, self.producers)
        try:
            # The requests are held until all are there: the supply itself forgets what nobody holds.
            requests = supply.request(range(self.valid + self.statistics))
            return _store(self, described, supply, [supply.get(request.number) for request in requests])
        except BaseException:
            supply.close()
            raise

    def samples(self, store: SampleStore, normalizer: Normalizer) -> "OnlineDataset":
        """The samples of what `store` has given."""
        assert isinstance(store, OnlineStore)
        return OnlineDataset(store, self, normalizer)


@dataclass(frozen=True, eq=False)
class OnlineStore:
    """The held-out trajectories of a simulation, and the supply of all; a `SampleStore`.

    Attributes:
        dataset: identifier.
        variables: channels of the state.
        static_variables: channels that do not depend on time.
        params: names of scalars.
        grid: the grid of all fields.
        times: (T,) from the first frame on.
        time_units: the units of `times`.
        splits: (N, T) which frames belong to each split: all are for validation.
        stats: statistics of the first trajectories that train.
        frames: reads the state of those held out at (trajectory, time).
        static_frames: reads their static fields at (trajectory,).
        scalar_values: (N, S) their parameters.
        supply: simulates trajectories by their numbers.
        symmetries: of the equation that is simulated.
        num_missing: none.
        assumptions: none, since it is simulated here.
        archive: none either.
    """

    dataset: str
    variables: tuple[Variable, ...]
    static_variables: tuple[Variable, ...]
    params: tuple[str, ...]
    grid: Grid
    times: Floats
    time_units: str
    splits: dict[str, Flags]
    stats: Statistics
    frames: FrameReader
    static_frames: FrameReader
    scalar_values: Floats
    supply: TrajectorySupply
    symmetries: DeclaredSymmetries
    num_missing: int = 0
    assumptions: tuple[Assumption, ...] = ()
    archive: str = ""

    @property
    def label(self) -> str:
        """What is simulated, for messages."""
        return f"simulation of {self.dataset}"

    @property
    def num_times(self) -> int:
        """T."""
        return len(self.times)

    @property
    def dt(self) -> float:
        """See SampleStore."""
        return float(self.times[-1]) / (self.num_times - 1) if self.num_times > 1 else 1.0


def _store(
    config: OnlineConfig, described: FieldReader, supply: TrajectorySupply, made: Sequence[Trajectory]
) -> OnlineStore:
    """A store of the trajectories for validation, with the statistics of the others."""
    state_NTCHW = np.stack([trajectory.state for trajectory in made])
    static_NCHW = np.stack([trajectory.static for trajectory in made])
    scalars_NS = np.stack([trajectory.scalars for trajectory in made])
    num, train = config.valid, state_NTCHW[config.valid :]
    # Without a channel there is no frame to take the size of.
    static = static_NCHW[num:] if described.static else static_NCHW[:0]
    # All frames train, and no trajectory has a frame before its first.
    every, before = np.ones(train.shape[:2], bool), np.ones(0, bool)
    measures = measure_block(train, static, every, every, train[:0, 0], before)
    found = statistics_of(measures)
    valid = np.ones((num, len(described.axis)), bool)
    return OnlineStore(
        dataset=config.name,
        variables=tuple(channel.variable for channel in described.state),
        static_variables=tuple(channel.variable for channel in described.static),
        params=tuple(described.params),
        grid=described.grid,
        times=described.axis,
        time_units=described.time_units,
        splits={name: valid & (name == "valid") for name in SPLITS},
        stats=Statistics(**{field.name: found[field.name] for field in fields(Statistics)}),
        # Copies, so that those simulated for the statistics are forgotten.
        frames=MemoryReader(state_NTCHW[:num].copy()),
        static_frames=MemoryReader(static_NCHW[:num].copy()),
        scalar_values=scalars_NS[:num],
        supply=supply,
        symmetries=declared(config.simulation.equation.build()),
    )


class _SuppliedState(FrameReader):
    """Reads frames of trajectories that are simulated, once they are."""

    def __init__(self, supply: TrajectorySupply) -> None:
        self._supply = supply

    def read_frame(self, position: tuple[int, ...], buffers: Sequence[NDArray[Any]]) -> None:
        """Fill buffers one after the other from the start of one frame."""
        trajectory, frame = position
        scatter(self._supply.get(trajectory).state[frame], buffers)


class _SuppliedStatic(FrameReader):
    """Reads static fields of trajectories that are simulated, once they are."""

    def __init__(self, supply: TrajectorySupply) -> None:
        self._supply = supply

    def read_frame(self, position: tuple[int, ...], buffers: Sequence[NDArray[Any]]) -> None:
        """Fill buffers one after the other from the start of a trajectory's fields."""
        scatter(self._supply.get(*position).static, buffers)


@dataclass(frozen=True)
class Production:
    """What the producers of a process have done.

    Attributes:
        ready: trajectories of the reservoir that are simulated.
        wanted: trajectories that the reservoir should have.
        simulated: trajectories simulated in all.
        seconds: time that producers have spent on them [s].
        drawn: samples drawn from them.
        elapsed: time since the producers began [s].
    """

    ready: int
    wanted: int
    simulated: int
    seconds: float
    drawn: int
    elapsed: float


class OnlineDataset(Dataset):
    """Samples of a simulation by number: those of trajectory n begin at n times the samples of one.

    Attributes:
        online: the configuration.
        uses: samples drawn from a trajectory on average.
        drawn: samples drawn from the reservoir so far.
    """

    store: OnlineStore

    def __init__(self, store: OnlineStore, config: OnlineConfig, normalizer: Normalizer) -> None:
        shared = {name: getattr(config, name) for name in SamplesConfig.model_fields}
        # A path is never opened here: the store is there already, and its label is what messages show.
        super().__init__(store, DatasetConfig(path=Path(store.label), **shared), normalizer)
        self.online, self._supply = config, store.supply
        # Training reads what producers make; the store's own frames are those held out.
        self._reader = replace(
            self._reader, state=_SuppliedState(store.supply), static=_SuppliedStatic(store.supply)
        )
        # A simulation has no end: an epoch is what the reservoir holds at a time.
        self.num_samples = config.reservoir * self._index.num_samples
        self.uses = config.uses or self._index.num_samples
        self.drawn = 0

    def _make_index(self) -> SampleIndex:
        """Of one trajectory: all have the same frames."""
        try:
            frames = np.ones((1, self.store.num_times), bool)
            return index_samples(frames, self.sampling, reach=self.config.reach)
        except ConfigError as error:
            raise ConfigError(f"{self.store.label}: {error}") from error

    def index(self, samples: Ints) -> Ints:
        """See Dataset."""
        # Sample numbers run through one trajectory after the other, without an end.
        trajectories, places = np.divmod(samples, self._index.num_samples)
        index = self._index.lookup(places)
        index[:, 0] = trajectories
        return index

    def lanes(self, number: int, micro_batch: int, key: tuple[int, ...]) -> Lanes:
        """See Dataset: the reservoir.

        Raises:
            ConfigError: there are fewer trajectories than micro-batches.
        """
        online = self.online
        if online.reservoir < number:
            raise ConfigError(
                f"{self.store.label}: reservoir: {online.reservoir} trajectories for the {number} micro-batches of a "
                "step; at least one for each, better dozens, would be right"
            )
        return Lanes(
            online.reservoir,
            self.uses,
            micro_batch,
            lanes=number,
            ahead=online.coming,
            first=online.valid,
            samples_each=self._index.num_samples,
            key=key,
        )

    @property
    def trajectory_bytes(self) -> int:
        """Memory of a trajectory's fields [bytes]."""
        store = self.store
        frames = store.num_times * len(store.variables) + len(store.static_variables)
        return 4 * frames * prod(store.grid.shape)

    def follow(self, lane: int, held: Ints, coming: Ints) -> None:
        """See Dataset."""
        self._supply.keep(lane, held.tolist(), coming.tolist())

    def request(self, samples: Ints) -> object:
        """See Dataset; counts the samples as drawn."""
        self.drawn += len(samples)
        return self._supply.request((samples // self._index.num_samples).tolist())

    def production(self) -> Production:
        """What the producers have done so far."""
        supply = self._supply
        elapsed = time.monotonic() - supply.began
        return Production(*supply.count(), supply.simulated, supply.seconds, self.drawn, elapsed)

    def release(self) -> None:
        """See Dataset."""
        self._supply.release()

    def close(self) -> None:
        """See Dataset."""
        self._supply.close()

    def _scalars(self, trajectories: Ints) -> Float32s:
        found = [self._supply.get(trajectory).scalars for trajectory in trajectories.tolist()]
        return np.array(found, np.float32).reshape(len(found), -1)


def _form(values: Any) -> str | None:
    """Which form a configuration describes: a store, unless it says otherwise."""
    kind = values.get("kind", "store") if isinstance(values, dict) else getattr(values, "kind", "store")
    return {"store": "a store", "online": "a simulation"}.get(kind)


DataConfig = Annotated[
    # The tags stand in no key of an error, since no key of a configuration has a blank.
    Annotated[DatasetConfig, Tag("a store")] | Annotated[OnlineConfig, Tag("a simulation")],
    Discriminator(_form, custom_error_type="kind", custom_error_message="kind should be 'store' or 'online'"),
]
"""Where samples come from."""
