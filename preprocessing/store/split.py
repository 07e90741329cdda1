"""Split: which frames train, which validate and which test."""

from collections.abc import Hashable, Mapping
from datetime import UTC, date, datetime
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal, NoReturn

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field

from pelagos.preprocessing.assumptions import ask, assume
from pelagos.preprocessing.config import Config
from pelagos.preprocessing.errors import ConfigError
from pelagos.preprocessing.quantities import dates
from pelagos.preprocessing.store.format import SPLITS, UNUSED, SplitCodes

INITIAL_CONDITION = "initial_condition"
"""What `group_by` calls the prognostic fields of the first frame."""


def _date_text(value: Any) -> Any:
    """A date as ISO text: YAML turns dates without quotes into objects."""
    if isinstance(value, datetime) and value.tzinfo is not None:
        # Axes are in UTC and have no zone, as NumPy's dates.
        value = value.astimezone(UTC).replace(tzinfo=None)
    return value.isoformat() if isinstance(value, date) else value


Bound = Annotated[int | str | None, BeforeValidator(_date_text)]
AxisRange = tuple[Bound, Bound]
"""[start, stop) as in slices: positions, negative ones counted from the end, or ISO dates."""


_NEARBY = 100
"""Years by which a number may lie outside the dates and still be meant as a year."""


def without_years(ranges: Mapping[str, AxisRange], axis: NDArray[Any]) -> dict[str, AxisRange]:
    """The ranges of an axis, with dates for those numbers that can only be years: [1979, 1983] of daily data.

    Where they may be positions as well, they stay positions, and that is asked about.

    Args:
        ranges: the ranges by the names of their options.
        axis: dates or other times.
    """
    numbers = [bound for bounds in ranges.values() for bound in bounds if isinstance(bound, int)]
    if not numbers or not dates.is_dated(axis) or not len(axis):
        return dict(ranges)
    first, last = dates.years(axis)
    near = all(first - _NEARBY <= number <= last + _NEARBY for number in numbers)
    # In models' years 1 to 100 every position looks like one; and nobody counts positions from the year 1979.
    if first < 1000 or not near or max(numbers) < first or min(numbers) > last + 1:
        return dict(ranges)
    option = next(name for name, bounds in ranges.items() if any(isinstance(bound, int) for bound in bounds))
    text = f"{option}: {list(ranges[option])} of data from {first} to {last}"
    if max(numbers) <= len(axis):
        answer = f"quote years, as in {option}: ['{first}', '{last}'], or give dates; accept: [positions]"
        ask("positions", option, f"{text} are taken as positions of frames, but look like years", answer)
        return dict(ranges)
    assume(
        "positions",
        option,
        f"{text} are taken as years, the second one excluded",
        "quote years, or give dates",
    )
    return {name: (_as_year(start), _as_year(stop)) for name, (start, stop) in ranges.items()}


def _as_year(bound: Bound) -> Bound:
    return f"{bound:04}" if isinstance(bound, int) else bound


def resolve_range(bounds: AxisRange, axis: NDArray[Any], name: str) -> slice:
    """The positions on an axis that a range covers.

    Raises:
        ConfigError: the range is empty, reaches beyond the axis, or has a date where the axis has none.
    """
    start, stop = (_position(bound, axis, name) for bound in bounds)
    start, stop = 0 if start is None else start, len(axis) if stop is None else stop
    if not 0 <= start < stop <= len(axis):
        raise ConfigError(f"{name}: {list(bounds)} is empty or reaches beyond {_extent(axis)}")
    return slice(start, stop)


def _position(bound: Bound, axis: NDArray[Any], name: str) -> int | None:
    if bound is None:
        return None
    if isinstance(bound, int):
        return bound + len(axis) if bound < 0 else bound
    if not dates.is_dated(axis):
        raise ConfigError(
            f"{name}: {bound!r} is a date, but the data have no dates; give positions from 0 to {len(axis) - 1}"
        )
    try:
        # The first frame at or after the date, so that the stop itself is left out.
        return int(np.searchsorted(axis, dates.parse(bound, axis)))
    except ValueError as error:
        raise ConfigError(
            f"{name}: {bound!r} is not an ISO date such as 1979-01-31 or 1979-01-31T06"
        ) from error


def _extent(axis: NDArray[Any]) -> str:
    return f"the {len(axis)} entries from {axis[0]} to {axis[-1]}"


class TrajectorySplit(Config):
    """Whole trajectories: counts (train from the front, test the last, valid before them) or ranges.

    Attributes:
        train: number of trajectories or [start, stop) that train; all that remain by default.
        valid: number or range that validates; none by default.
        test: number or range that tests; none by default.
        group_by: names of scalars, or `initial_condition` for the prognostic fields of the first frame;
            trajectories that agree in all of these stay in one split.
    """

    kind: Literal["trajectories"] = "trajectories"
    train: Annotated[int, Field(ge=0)] | AxisRange | None = None
    valid: Annotated[int, Field(ge=0)] | AxisRange = 0
    test: Annotated[int, Field(ge=0)] | AxisRange = 0
    group_by: tuple[str, ...] = ()

    def codes(
        self, times: NDArray[Any], num_trajectories: int, scalars: dict[str, NDArray[Any]]
    ) -> SplitCodes:
        """(trajectory, time) positions in `SPLITS`, -1 for unused.

        Raises:
            ConfigError: splits overlap, ask for more than there is, or tear a group apart.
        """
        groups = self._groups(num_trajectories, scalars)
        codes = np.full(num_trajectories, UNUSED, np.int8)
        members = self._members(num_trajectories, groups)
        for code, name in enumerate(SPLITS):
            chosen = members[name]
            if (taken := chosen[codes[chosen] != UNUSED]).size:
                other = SPLITS[codes[taken[0]]]
                raise ConfigError(f"splits: trajectory {taken[0]} is in {other} and in {name}")
            codes[chosen] = code
        _check_groups(codes, groups, self.group_by)
        return np.repeat(codes[:, None], len(times), axis=1)

    def _groups(self, num_trajectories: int, scalars: dict[str, NDArray[Any]]) -> NDArray[np.int64]:
        """(trajectory,) the number of each one's group, counted in the order of first members."""
        if missing := [name for name in self.group_by if name not in scalars]:
            raise ConfigError(
                f"splits.group_by: no scalar {missing[0]!r}; there are {sorted({*scalars, INITIAL_CONDITION})}"
            )
        if not self.group_by:
            return np.arange(num_trajectories)
        # By whole rows: trajectories are one group only where they agree in all names.
        numbers: dict[Hashable, int] = {}
        rows = zip(*(scalars[name].tolist() for name in self.group_by), strict=True)
        return np.array([numbers.setdefault(row, len(numbers)) for row in rows])

    def _members(self, num_trajectories: int, groups: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
        """The trajectories of each split; a count takes whole groups, and never more than it asks for."""
        # Stable, so that groups are contiguous and trajectories within one keep their order.
        order = np.argsort(groups, kind="stable")
        members: dict[str, NDArray[np.int64]] = {}
        last = num_trajectories
        # From the back; boundaries move towards the back, so that no split exceeds its count.
        for name, asked in (("test", self.test), ("valid", self.valid)):
            if isinstance(asked, int):
                first = self._boundary(groups[order], last - asked, name, up=True)
                if asked and first == last:
                    self._refuse(name, asked, groups, order[last - 1])
                members[name], last = order[first:last], first
            else:
                members[name] = self._range(asked, num_trajectories, name)
        if isinstance(self.train, tuple):
            return members | {"train": self._range(self.train, num_trajectories, "train")}
        if self.train is None:
            # Ranges may lie anywhere, so what remains is not only what lies before them.
            rest = np.setdiff1d(order[:last], np.concatenate(list(members.values())))
            return members | {"train": rest}
        if self.train > last:
            raise ConfigError(
                f"splits: train asks for {self.train} of {num_trajectories} trajectories; "
                f"valid and test leave {last}"
            )
        stop = self._boundary(groups[order], self.train, "train", up=False)
        if self.train and not stop:
            self._refuse("train", self.train, groups, order[0])
        return members | {"train": order[:stop]}

    def _refuse(self, name: str, asked: int, groups: NDArray[np.int64], member: int) -> NoReturn:
        num = int((groups == groups[member]).sum())
        raise ConfigError(
            f"splits: {name} asks for {asked} trajectories and gets none: {num}, trajectory {member} among them, "
            f"agree in {', '.join(self.group_by)} and stay together"
        )

    def _boundary(self, ordered: NDArray[np.int64], position: int, name: str, *, up: bool) -> int:
        """The nearest position between two groups, upwards or downwards."""
        if position < 0:
            raise ConfigError(f"splits: {name} asks for {-position} more trajectories than there are")
        size = len(ordered)
        while 0 < position < size and ordered[position - 1] == ordered[position]:
            position += 1 if up else -1
        return position

    def _range(self, bounds: AxisRange, num_trajectories: int, name: str) -> NDArray[np.int64]:
        chosen = resolve_range(bounds, np.arange(num_trajectories), f"splits.{name}")
        return np.arange(chosen.start, chosen.stop)


def _check_groups(codes: SplitCodes, groups: NDArray[np.int64], names: tuple[str, ...]) -> None:
    used = codes != UNUSED
    # A group that occurs in two pairs (group, split) is torn; unused trajectories tear nothing.
    pairs = np.unique(np.stack([groups[used], codes[used]]), axis=1)
    numbers, counts = np.unique(pairs[0], return_counts=True)
    if (torn := numbers[counts > 1]).size:
        where = np.flatnonzero(groups == torn[0])
        raise ConfigError(
            f"splits: trajectories {where[:4].tolist()} agree in {', '.join(names)} "
            "but are in different splits"
        )


class TimeSplit(Config):
    """Ranges of time, the same in all trajectories: positions or ISO dates, each [start, stop).

    Attributes:
        train: the frames to train on; null for an open end.
        valid: the frames to validate on.
        test: the frames to test on.
    """

    kind: Literal["time"] = "time"
    train: AxisRange
    valid: AxisRange | None = None
    test: AxisRange | None = None

    def codes(
        self, times: NDArray[Any], num_trajectories: int, scalars: dict[str, NDArray[Any]]
    ) -> SplitCodes:
        """(trajectory, time) positions in `SPLITS`, -1 for unused.

        Raises:
            ConfigError: splits overlap or reach beyond the data.
        """
        codes = np.full(len(times), UNUSED, np.int8)
        given = {f"splits.{name}": bounds for name in SPLITS if (bounds := getattr(self, name)) is not None}
        ranges = without_years(given, times)
        for code, name in enumerate(SPLITS):
            if (option := f"splits.{name}") not in ranges:
                continue
            chosen = resolve_range(ranges[option], times, option)
            if (taken := np.flatnonzero(codes[chosen] != UNUSED)).size:
                first = chosen.start + taken[0]
                other = SPLITS[codes[first]]
                raise ConfigError(f"splits: frame {first} ({times[first]}) is in {other} and in {name}")
            codes[chosen] = code
        return np.repeat(codes[None], num_trajectories, axis=0)


FILE = "file"
"""The name under which splits are given the file of each frame."""


def _patterns(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


Patterns = Annotated[tuple[str, ...], BeforeValidator(_patterns)]


class FileSplit(Config):
    """Whole files, by name or pattern: `train: "*_train.h5"`.

    Attributes:
        train: files that train; all that remain by default.
        valid: files that validate; none by default.
        test: files that test; none by default.
    """

    kind: Literal["files"] = "files"
    train: Patterns | None = None
    valid: Patterns = ()
    test: Patterns = ()

    def codes(
        self, times: NDArray[Any], num_trajectories: int, scalars: dict[str, NDArray[Any]]
    ) -> SplitCodes:
        """(trajectory, time) positions in `SPLITS`, -1 for unused.

        `scalars` hold the file of each trajectory, (N, 1), or of each time, (1, T), as `file`.

        Raises:
            ConfigError: nothing says which file a frame is from, a pattern fits no file, or two fit one.
        """
        if FILE not in scalars:
            raise ConfigError(
                "splits: kind files needs files that follow one another along trajectories or times, and these do not"
            )
        files = scalars[FILE]
        names = list(dict.fromkeys(files.ravel().tolist()))
        chosen: dict[str, int] = {}
        for code, split in enumerate(SPLITS):
            for pattern in getattr(self, split) or ():
                for name in self._fitting(pattern, split, names):
                    if chosen.setdefault(name, code) != code:
                        raise ConfigError(f"splits: {name} is in {SPLITS[chosen[name]]} and in {split}")
        rest = SPLITS.index("train") if self.train is None else UNUSED
        codes = np.array([chosen.get(name, rest) for name in files.ravel().tolist()], np.int8)
        return np.broadcast_to(codes.reshape(files.shape), (num_trajectories, len(times))).copy()

    @staticmethod
    def _fitting(pattern: str, split: str, names: list[str]) -> list[str]:
        found = [name for name in names if _fits(name, pattern)]
        if not found:
            listed = ", ".join(names[:5]) + ", ..." * (len(names) > 5)
            raise ConfigError(f"splits.{split}: no file fits {pattern!r}; there are {listed}")
        return found


def _fits(name: str, pattern: str) -> bool:
    """Whether a path or its last parts fit: `a.h5`, `test/*.h5`, `/data/test/*.h5`."""
    # By case on every system, so that a split is the same wherever it is built.
    return fnmatchcase(name, pattern) or fnmatchcase(name, f"*/{pattern}")


Split = Annotated[TrajectorySplit | TimeSplit | FileSplit, Field(discriminator="kind")]
