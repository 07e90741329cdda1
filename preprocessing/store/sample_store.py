"""SampleStore: what samples and models ask of a store, and of what stands for one."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np

from pelagos.preprocessing.array_types import Flags, Floats
from pelagos.preprocessing.assumptions import Assumption
from pelagos.preprocessing.grid import Grid
from pelagos.preprocessing.store.frame_reader import FrameReader
from pelagos.preprocessing.variables import Variable

if TYPE_CHECKING:  # of equations, of which training alone asks
    from pelagos.preprocessing.physics.symmetry import DeclaredSymmetries


@dataclass(frozen=True, eq=False)
class Statistics:
    """Statistics of the training frames, for each of C channels and of C static channels, as stored.

    Missing values do not count.

    Attributes:
        count: how many values there are.
        mean: 0 where there are no values.
        std: standard deviation; 1 where it would be 0 or there are no values, so that it can always be divided by.
        minimum: NaN where there are no values.
        maximum: NaN where there are no values.
        constant: where the standard deviation would be 0.
        tendency_mean: mean of the difference of consecutive frames.
        tendency_std: its standard deviation, 1 where it would be 0.
        static_count: count of each static channel.
        static_mean: mean of each static channel.
        static_std: standard deviation of each static channel.
        static_minimum: minimum of each static channel.
        static_maximum: maximum of each static channel.
        static_constant: which static channels are constant.
    """

    count: Floats
    mean: Floats
    std: Floats
    minimum: Floats
    maximum: Floats
    constant: Flags
    tendency_mean: Floats
    tendency_std: Floats
    static_count: Floats
    static_mean: Floats
    static_std: Floats
    static_minimum: Floats
    static_maximum: Floats
    static_constant: Flags

    def to_json(self) -> dict[str, Any]:
        """Lists of numbers and flags, from which `from_json` restores the statistics exactly."""
        return {name: values.tolist() for name, values in asdict(self).items()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """The inverse of `to_json`."""
        return cls(**{name: np.array(one) for name, one in values.items()})


# A protocol, not a base class: a simulation has no path, and a store no supply.
class SampleStore(Protocol):
    """One dataset, immutable; its attributes are those of `Store` of the same name."""

    @property
    def label(self) -> str:
        """The place that the data come from, for messages."""

    @property
    def dataset(self) -> str:
        """The dataset's identifier."""

    @property
    def variables(self) -> tuple[Variable, ...]:
        """Channels of the state: prognostic, then forcing, then diagnostic."""

    @property
    def static_variables(self) -> tuple[Variable, ...]:
        """Channels that do not depend on time."""

    @property
    def params(self) -> tuple[str, ...]:
        """Names of scalars."""

    @property
    def grid(self) -> Grid:
        """The grid of all fields."""

    @property
    def times(self) -> Floats:
        """(T,) from the first frame on, in `time_units`."""

    @property
    def time_units(self) -> str:
        """Seconds for dated data."""

    @property
    def num_times(self) -> int:
        """T."""

    @property
    def dt(self) -> float:
        """Distance of two frames in `time_units`; 1 where there is one frame."""

    @property
    def splits(self) -> Mapping[str, Flags]:
        """(N, T) which frames belong to each split."""

    @property
    def stats(self) -> Statistics:
        """Statistics of the training split, or of those of its trajectories that were chosen."""

    @property
    def assumptions(self) -> tuple[Assumption, ...] | None:
        """What was assumed when it was built; None where that is not known."""

    @property
    def archive(self) -> str:
        """The format of what it was built from; empty where it is simulated."""

    @property
    def symmetries(self) -> "DeclaredSymmetries | None":
        """Those of the equation that it obeys, where that is known."""

    @property
    def num_missing(self) -> int:
        """How many values of the state and the static fields are NaN."""

    @property
    def frames(self) -> FrameReader:
        """Reads the state at (trajectory, time)."""

    @property
    def static_frames(self) -> FrameReader:
        """Reads the static fields at (trajectory,)."""

    @property
    def scalar_values(self) -> Floats:
        """(N, S) scalars, NaN where missing."""
