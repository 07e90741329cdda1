"""SampleStore: what samples and models ask of a store, and of what stands for one."""

from collections.abc import Mapping
from typing import Protocol

from pelagos.preprocessing.array_types import Flags, Floats
from pelagos.preprocessing.assumptions import Assumption
from pelagos.preprocessing.grid import Grid
from pelagos.preprocessing.store.frame_reader import FrameReader
from pelagos.preprocessing.store.store import Statistics
from pelagos.preprocessing.variables import Variable


class SampleStore(Protocol):
    """One dataset, immutable; its attributes are those of `Store` of the same name."""

    @property
    def label(self) -> str:
        """Where the data come from, for messages."""

    @property
    def dataset(self) -> str:
        """Identifier."""

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
        """Of all fields."""

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
        """Of the training split."""

    @property
    def assumptions(self) -> tuple[Assumption, ...] | None:
        """What was assumed when it was built; None where that is not known."""

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
