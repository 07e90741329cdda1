"""GRIB files through cfgrib, which the extra `grib` installs; a process keeps those open that it reads.

The messages of one parameter make one cube over members, times, steps and levels. cfgrib leaves out what does not fit
into one and fills up what is not there, so that messages are counted here before it reads them.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pelagos.preprocessing.assumptions import Assumption, assume, collect
from pelagos.preprocessing.errors import ConfigError, DamagedFileError, DataError, PelagosError
from pelagos.preprocessing.sources.absence import (
    AbsentPolicy,
    absent_policy,
    absent_values,
    refuse_holes,
    tell_absent,
)
from pelagos.preprocessing.sources.arrays.array_reader import FileArray, Index, take_block
from pelagos.preprocessing.sources.arrays.grib_messages import check_messages, leading_bytes

Choice = str | int | float
Selection = tuple[tuple[str, tuple[Choice, ...]], ...]
"""Keys of ecCodes with the values to take, hashable."""

_PLACE = ("number", "time", "step", "level:float")
"""Keys of the axes of a cube."""
_TOLD_APART = ("expver", "class", "stream", "type", "discipline", "parameterCategory", "parameterNumber")
"""Further keys by which two messages of one place may differ: of MARS, and of parameters that no table names."""
_RANGE = "stepRange"
"""The key of the steps that a sum, mean or extreme is over."""
_ONE_EACH = ("typeOfLevel", "stepType", "dataType", "gridType", "numberOfPoints", "uvRelativeToGrid")
"""Keys that all messages of a cube share, the most telling first."""


@dataclass(frozen=True)
class GribField(FileArray):
    """One field of a GRIB file over its cube of messages, those that are needed decoded at each access.

    Attributes:
        path: of the file.
        select: which of its messages.
        cube: number of its cube.
        absent: how messages that are missing are read.
    """

    path: Path
    select: Selection
    cube: int
    absent: AbsentPolicy = "error"

    def read(self, index: Index) -> NDArray[Any]:
        """The block at `index`; raises DamagedFileError if a message cannot be decoded."""
        # cfgrib takes slices and integers, so that positions are read as the slice around them.
        slices = tuple(one if isinstance(one, int | slice) else _around(one) for one in index)
        try:
            with absent_values(self.absent):
                cubes = open_cubes(self.path, self.select)
            values = cubes[self.cube].variables[self.key][slices].values
        except PelagosError:
            raise
        except Exception as error:  # ecCodes has a class for each way in which a message can be damaged
            raise DamagedFileError(
                f"{self.name}: the values of a message cannot be decoded; download or create it again"
            ) from error
        rest = tuple(
            slice(None) if isinstance(one, slice) else one - one[0]
            for one in index
            if not isinstance(one, int)
        )
        return np.asarray(take_block(values, rest))


def _around(positions: NDArray[np.int64]) -> slice:
    return slice(int(positions[0]), int(positions[-1]) + 1)


def as_selection(select: Mapping[str, Choice | tuple[Choice, ...]]) -> Selection:
    """A selection in the form in which readers keep it."""
    return tuple((key, one if isinstance(one, tuple) else (one,)) for key, one in sorted(select.items()))


def open_cubes(path: Path, select: Selection = (), *, tell: bool = False) -> tuple[xr.Dataset, ...]:
    """A dataset for each parameter, its values decoded but its times and attributes as stored.

    No index file is written beside the file.

    Args:
        path: of the file.
        select: which of its messages.
        tell: whether to say what of the file is left out, or missing.

    Raises:
        ConfigError: if cfgrib is not installed, or no message has what is selected.
        DataError: if a parameter is given on several grids, kinds of level or steps.
        DamagedFileError: if the file is truncated, or messages are missing.
    """
    cubes, assumed = _opened(path, path.stat().st_mtime_ns, select, absent_policy())
    for one in assumed if tell else ():
        assume(one.code, one.field, one.text, one.answer, question=one.question)
    return cubes


@lru_cache(maxsize=8)
def _opened(
    path: Path, modified: int, select: Selection, absent: AbsentPolicy
) -> tuple[tuple[xr.Dataset, ...], tuple[Assumption, ...]]:
    """The cubes, and what was assumed to make them, which is told whenever a source opens the file."""
    # cfgrib indexes every message of a file each time it is opened: once per process is enough.
    with collect() as assumed:
        return _read_cubes(path, select), assumed.all


def _read_cubes(path: Path, select: Selection) -> tuple[xr.Dataset, ...]:
    try:
        import cfgrib  # noqa: F401
    except (ImportError, RuntimeError) as error:
        raise ConfigError(
            f"{path} is a GRIB file, which needs cfgrib: pip install 'pelagos[grib]' ({error})"
        ) from error
    refuse_holes(path)
    check_messages(path)
    if before := leading_bytes(path):
        assume("fields_not_read", "", f"{path}: {before} bytes before its first message are skipped")
    try:
        every = _index(path, select)
        index = _selected(path, every, select)
        _say_left_out(path, every, index, select)
        return tuple(_cube(path, index.subindex(paramId=parameter)) for parameter in index["paramId"])
    except (PelagosError, PermissionError, MemoryError):
        raise
    except Exception as error:  # ecCodes has a class for each damage, and cfgrib stumbles over any of them
        raise DamagedFileError(
            f"{path}: cannot be read as GRIB: the header of a message contradicts itself; download or create it again"
        ) from error


def _index(path: Path, select: Selection) -> Any:
    from cfgrib import dataset, messages

    keys = [*dataset.compute_index_keys(), *_TOLD_APART, "shortName", _RANGE, *(key for key, _ in select)]
    stream = messages.FileStream(str(path), errors="raise")
    return dataset.open_fileindex(stream, indexpath="", index_keys=list(dict.fromkeys(keys)))


def _selected(path: Path, index: Any, select: Selection) -> Any:
    for key, choices in select:
        held = index[key]
        taken = [value for value in held if any(matches(value, choice) for choice in choices)]
        if absent := [choice for choice in choices if not any(matches(value, choice) for value in held)]:
            listed = _listed(held)
            there = f"it has {listed}" if listed else "no message has this key"
            raise ConfigError(f"select.{key}: {path} has no message with {absent[0]}; {there}")
        index = index.subindex({key: taken})
    if not index.field_ids_index:
        raise ConfigError(f"select: {path} has no message with all of {dict(select)} together")
    return index


def _say_left_out(path: Path, every: Any, index: Any, select: Selection) -> None:
    """Say which parameters have messages that a selection leaves out, unless it names them itself."""
    if any(key == "shortName" for key, _ in select):
        return
    column = every.index_keys.index("shortName")
    counts = [Counter[str](), Counter[str]()]
    for held, of in zip(counts, (every, index), strict=True):
        for header, messages in of.iter_index():
            held[header[column]] += len(messages)
    rest = counts[0] - counts[1]
    if rest:
        listed = ", ".join(f"{count} of {name}" for name, count in list(rest.items())[:12])
        text = (
            f"{path}: the selection leaves out {rest.total()} messages: {listed}{', ...' * (len(rest) > 12)}"
        )
        assume(
            "fields_not_read", "", text, "name what is wanted in source.select.shortName or source.variables"
        )


def matches(value: object, choice: object) -> bool:
    """Whether a value of a file is the one that a user writes: 0001 is the number 1 in YAML.

    >>> matches("0001", 1), matches(b"fc", "fc"), matches("0001", "0005")
    (True, True, False)
    """
    value = value.decode() if isinstance(value, bytes) else value
    if value == choice or str(value) == str(choice):
        return True
    try:
        return float(str(value)) == float(str(choice))
    except ValueError:
        return False


def _listed(values: Sequence[Any]) -> str:
    told = [str(value) for value in values if value != "undef"]
    return ", ".join(told[:12]) + (", ..." if len(told) > 12 else "")


def _cube(path: Path, index: Any) -> xr.Dataset:
    """The dataset of one parameter, of which no two messages are for one place, and none is missing."""
    from cfgrib import dataset

    name = f"{path}: {index['shortName'][0]}"
    for key in _ONE_EACH:
        if len(held := index[key]) > 1:
            raise DataError(
                f"{path}: its messages are no single set of fields: {index['shortName'][0]} is given for {key}"
                f" {_listed(held)}; take one of them, as in select: {{{key}: {held[0]}}}"
            )
    _check_places(name, index)
    try:
        return _with_ranges(_lazy(dataset.open_from_index(index, errors="raise")), index)
    except dataset.DatasetBuildError as error:  # whose advice is for users of cfgrib
        raise DataError(
            f"{name}: its messages are no single set of fields; take some of them by select, as in"
            " select: {typeOfLevel: surface, shortName: 2t, step: 0}"
        ) from error


def _with_ranges(ds: xr.Dataset, index: Any) -> xr.Dataset:
    """The dataset with the ranges of steps that its one field is over, unless it is instantaneous."""
    if "instant" not in index["stepType"]:
        for one in ds.data_vars.values():
            one.attrs["GRIB_stepRange"] = ", ".join(index[_RANGE])
    return ds


def _check_places(name: str, index: Any) -> None:
    columns = [index.index_keys.index(key) for key in _PLACE]
    places: dict[tuple[Any, ...], list[tuple[tuple[Any, ...], Any]]] = {}
    for header, messages in index.iter_index():
        place = tuple(header[column] for column in columns)
        places.setdefault(place, []).extend((header, message) for message in messages)
    for place, found in places.items():
        if len(found) > 1:
            _check_copies(name, index, place, found)
    axes = [sorted({place[axis] for place in places}, key=str) for axis in range(len(_PLACE))]
    if len(places) < len(axes[0]) * len(axes[1]) * len(axes[2]) * len(axes[3]):
        absent = [place for place in product(*axes) if place not in places]
        tell_absent(
            name,
            f"{len(absent)} of {len(absent) + len(places)} messages are missing, the first for"
            f" {_told(absent[0])}",
            np.dtype(np.float32),
            advice=f"take some of them, as in select: {{step: {axes[2][0]:g}}}, complete the file",
        )


def _check_copies(
    name: str, index: Any, place: tuple[Any, ...], found: list[tuple[tuple[Any, ...], Any]]
) -> None:
    """Raise DataError unless all messages of a place are the same."""
    for number, key in enumerate(index.index_keys):
        values = dict.fromkeys(header[number] for header, _ in found)
        if len(values) > 1:
            raise DataError(
                f"{name}: there are {len(found)} messages for {_told(place)}, with {key} {_listed(list(values))}; take"
                f" one of them, as in select: {{{key}: {next(iter(values))!r}}}"
            )
    first, *others = (index.get_field(message)["values"] for _, message in found)
    if any(not np.array_equal(first, other) for other in others):
        raise DataError(
            f"{name}: there are {len(found)} messages for {_told(place)}, and they differ; keep one"
        )


def _told(place: tuple[Any, ...]) -> str:
    number, time, step, level = place
    date = np.datetime_as_string(np.datetime64(int(time), "s"), unit="m") if isinstance(time, int) else time
    member = f", member {number}" if number not in ("undef", 0) else ""
    height = f", level {level:g}" if isinstance(level, float) else ""
    return f"{date}, step {step:g}{height}{member}" if isinstance(step, float) else f"{date}{height}{member}"


def _lazy(built: Any) -> xr.Dataset:
    """What cfgrib built as a dataset of xarray, as its engine would make it, whose values are read later."""
    from cfgrib.xarray_plugin import ECCODES_LOCK, CfGribDataStore

    store = CfGribDataStore.__new__(CfGribDataStore)  # its constructor would index the file again
    store.lock, store.ds = ECCODES_LOCK, built
    variables = {key: store.open_store_variable(one) for key, one in built.variables.items()}
    return xr.Dataset(variables, attrs=built.attributes)
