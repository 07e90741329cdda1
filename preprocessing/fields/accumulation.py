"""Accumulation: fields that archives keep as sums since the start of a forecast or of a day, made sums of each step."""

from collections.abc import Container
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from pydantic import PositiveFloat, model_validator
from xarray.backends import BackendArray
from xarray.core import indexing

from pelagos.preprocessing.array_types import Floats, Ints
from pelagos.preprocessing.assumptions import assume
from pelagos.preprocessing.config import Config
from pelagos.preprocessing.errors import ConfigError
from pelagos.preprocessing.quantities import dates
from pelagos.preprocessing.quantities.units import conversion
from pelagos.preprocessing.sources import convention

_SLACK = 1e-3  # of a step: times may be rounded

FROM_ZERO, UNKNOWN = -1, -2
"""In place of the frame that is subtracted: none, as the sum began with the step; and that it is not there."""


class Accumulation(Config):
    """When the sums of a field begin. In YAML `start`, `day` or a number of hours suffices: `total_precipitation: day`.

    Attributes:
        since: `start` of each forecast, where lead times are counted, or `day`, at 00 UTC.
        reset_hours: hours after which a sum begins again, counted from 00 UTC or the start of the forecast; of
            ERA-Interim and of ERA5 before 2019 they are 12, of ERA5-Land 24.
        negative: what becomes of steps whose sum is negative, as packing may make them; they are told in either case.
    """

    since: Literal["start", "day"] | None = None
    reset_hours: PositiveFloat | None = None
    negative: Literal["keep", "zero"] = "keep"

    @model_validator(mode="before")
    @classmethod
    def _from_word(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"since": value}
        return {"reset_hours": value} if isinstance(value, int | float) else value

    @model_validator(mode="after")
    def _one_rule(self) -> "Accumulation":
        if (self.since is None) == (self.reset_hours is None):
            raise ValueError("give either since: start or day, or reset_hours")
        return self

    @property
    def period(self) -> float:
        """Hours after which a sum begins again; infinite if it never does."""
        return self.reset_hours or (24.0 if self.since == "day" else np.inf)

    def __str__(self) -> str:
        if self.since == "start":
            return "the start of each forecast"
        return "00 UTC of each day" if self.period == 24 else f"a reset every {self.period:g} hours"


def step_sums(ds: xr.Dataset, accumulated: dict[str, Accumulation], taken: Ints, every: int) -> xr.Dataset:
    """The dataset with sums over each step of the frames that are taken; reads no field.

    Args:
        ds: the dataset with all its frames.
        accumulated: the fields that accumulate.
        taken: positions of the frames that a store takes.
        every: one of so many frames is taken, which is how long a step is.

    Raises:
        ConfigError: it cannot be told when sums begin, or a step or the frame before the first is not in the data.
    """
    for name, rule in accumulated.items():
        if "time" not in ds[name].dims:
            raise ConfigError(f"deaccumulate.{name}: the field does not depend on time")
        ranges = ds[name].attrs.get(convention.STEP_RANGES, "start")
        if ranges != "start":
            raise ConfigError(
                f"deaccumulate.{name}: its messages are over {ranges} each, not since a start; leave it as it is"
            )
        before = _frames_before(name, ds["time"], rule, every)
        if (bad := taken[before[taken] == UNKNOWN]).size:
            raise ConfigError(_advice(name, ds, rule, int(bad[0]), first=bool(bad[0] == taken[0])))
        sums = StepSums(ds[name].variable, before, f"{ds.attrs['dataset']}: {name}", name, rule.negative)
        array = xr.Variable(ds[name].dims, indexing.LazilyIndexedArray(sums), ds[name].attrs)
        ds = ds.assign({name: array})
        hours = _hours(name, ds["time"])
        step = f"{hours[every] - hours[0]:g} h" if len(hours) > every else "its only step"
        assume(
            "accumulation",
            name,
            f"{ds.attrs['dataset']}: sums since {rule} became sums of each step of {step}",
        )
    return ds


def say_sums(ds: xr.Dataset, accumulated: dict[str, Accumulation]) -> None:
    """Say which fields of forecasts are sums over time by their attributes and are kept as they are."""
    if dates.is_dated(ds["time"].values):
        return
    for name, array in ds.data_vars.items():
        if "time" in array.dims and name not in accumulated and _says_sum(array):
            ranges = array.attrs.get(convention.STEP_RANGES, "")
            what = {"": "sums over time", "start": "sums since the start"}.get(
                ranges, f"sums over {ranges} each"
            )
            answer = f"deaccumulate: {{{name}: start}}" + (
                " where they are sums since its start" if not ranges else ""
            )
            if what.endswith("each"):
                answer = "accept: [accumulation]"
            text = f"{ds.attrs['dataset']}: {what} of a forecast are kept as they are"
            assume("accumulation", str(name), text, answer)


def sums_as_diagnostics(ds: xr.Dataset, accumulated: Container[str], decided: Container[str]) -> xr.Dataset:
    """The dataset with sums of steps as diagnostics: rain that has fallen says little of the rain to come.

    A dataset whose fields are all sums stays as it is: something has to be forecast from. So do sums since the start of
    a forecast, which grow from what they were.

    Args:
        ds: the dataset.
        accumulated: fields that are sums, beside those whose attributes say so.
        decided: fields whose roles are given.
    """
    moving = convention.in_role(ds, "prognostic")
    dated = dates.is_dated(ds["time"].values)
    sums = [name for name in moving if name in accumulated or (dated and _says_sum(ds[name]))]
    if len(sums) == len(moving):
        return ds
    for name in (one for one in sums if one not in decided and "time" in ds[one].dims):
        ds = ds.assign({name: ds[name].assign_attrs(role="diagnostic").variable})
        text = f"{ds.attrs['dataset']}: sums of steps are diagnostic: forecast, but not forecast from"
        assume("accumulation", f"{name} as output", text, f"roles: {{{name}: prognostic}} or diagnostic")
    return ds


def _says_sum(array: xr.DataArray) -> bool:
    says = f"{array.attrs.get('cell_methods', '')} {array.attrs.get('GRIB_stepType', '')}"
    return "time: sum" in says or "accum" in says


@dataclass(eq=False)
class StepSums(BackendArray):
    """A lazy field minus itself at other frames; in the form that xarray expects of a backend.

    Attributes:
        sums: of dims (..., time, ...), read when needed.
        before: (T,) the frame to subtract from each, or FROM_ZERO or UNKNOWN.
        label: the dataset and the field, for messages.
        name: of the field.
        negative: whether a negative sum of a step is kept, or zero.
    """

    sums: xr.Variable
    before: Ints
    label: str
    name: str
    negative: Literal["keep", "zero"]

    def __post_init__(self) -> None:
        self.shape, self.dtype = self.sums.shape, self.sums.dtype
        self._axis = self.sums.dims.index("time")

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._read)

    def _read(self, key: tuple[Any, ...]) -> NDArray[Any]:
        frames = np.atleast_1d(np.arange(len(self.before))[key[self._axis]])
        before = self.before[frames]
        needed = np.unique(np.concatenate([frames, before[before >= 0]]))
        # All axes are kept until the end, so that time stays where it is.
        where = [slice(int(one), int(one) + 1) if isinstance(one, int | np.integer) else one for one in key]
        where[self._axis] = _as_slice(needed)
        held = np.moveaxis(np.asarray(self.sums[tuple(where)].values), self._axis, 0)
        shape = (-1, *(1,) * (held.ndim - 1))
        subtracted = np.where(
            (before >= 0).reshape(shape), held[np.searchsorted(needed, np.maximum(before, needed[0]))], 0
        )
        values = held[np.searchsorted(needed, frames)].astype(np.float64) - subtracted
        values[before == UNKNOWN] = np.nan
        values = np.moveaxis(self._told(values), 0, self._axis).astype(self.dtype)
        single = tuple(0 if isinstance(one, int | np.integer) else slice(None) for one in key)
        return np.asarray(values[single])

    def _told(self, values: Floats) -> Floats:
        if not (values < 0).any():
            return values
        what = "kept" if self.negative == "keep" else "made zero"
        assume(
            "accumulation",
            f"{self.name} < 0",  # beside what is said of the field itself
            f"{self.label}: {int((values < 0).sum())} sums of steps are negative, down to {np.nanmin(values):.3g};"
            f" they are {what}",
            f"deaccumulate: {{{self.name}: {{..., negative: keep or zero}}}}",
        )
        return values if self.negative == "keep" else np.where(values < 0, 0.0, values)


def _frames_before(name: str, time: xr.DataArray, rule: Accumulation, every: int) -> Ints:
    """(T,) the frame to subtract from each: one step earlier unless the sum began between."""
    hours, dated = _hours(name, time), dates.is_dated(time.values)
    if rule.since == "start" and dated:
        raise ConfigError(
            f"deaccumulate.{name}: the data have dates and not lead times, so that it is not known when forecasts"
            " start; day, or reset_hours, would be right where sums begin anew at fixed hours"
        )
    frames = np.arange(len(hours))
    step = (hours[every] - hours[0]) if len(hours) > every else rule.period
    slack = _SLACK * step if np.isfinite(step) else _SLACK
    # A sum that begins anew at 24 h is written for 24 h as the whole sum, so that the begin lies strictly before.
    begun = np.zeros(len(hours))
    if np.isfinite(rule.period):
        begun = rule.period * (np.ceil((hours - slack) / rule.period) - 1)
    begun = np.where(hours <= slack, hours, begun) if not dated else begun
    earlier = np.maximum(frames - every, 0)
    there = (frames >= every) & (np.abs(hours - step - hours[earlier]) <= slack)
    within = begun < hours - step - slack
    from_zero = np.abs(begun - (hours - step)) <= slack
    at_start = (np.abs(hours) <= slack) & (not dated)
    return np.where(from_zero | at_start, FROM_ZERO, np.where(within & there, earlier, UNKNOWN))


def _hours(name: str, time: xr.DataArray) -> Floats:
    """Lead times, or times since a midnight, in hours."""
    if dates.is_dated(time.values):
        return dates.seconds(time.values) / 3600
    units = str(time.attrs.get("units", "1"))
    try:
        scale, _ = conversion(units, "h")
    except ConfigError as error:
        raise ConfigError(
            f"deaccumulate.{name}: times are in '{units}'; hours or another unit of time would be right"
        ) from error
    return np.asarray(time.values.astype(np.float64) * scale)


def _advice(name: str, ds: xr.Dataset, rule: Accumulation, frame: int, *, first: bool) -> str:
    moment = ds["time"].values[frame]
    where = f"deaccumulate.{name}: {ds.attrs['dataset']}"
    if first:
        return (
            f"{where}: the first frame, at {moment}, is a sum since {rule}, and the frame one step earlier is not in"
            " the data; begin one frame later by subset.time, where the frame before is there"
        )
    return (
        f"{where}: the sum of the step up to {moment} cannot be told: sums since {rule} begin anew within it, or the"
        " frame before is missing; steps that divide the hours between resets would be right (subset.every)"
    )


def _as_slice(positions: Ints) -> slice | Ints:
    steps = np.unique(np.diff(positions))
    if len(steps) > 1:
        return positions
    return slice(int(positions[0]), int(positions[-1]) + 1, int(steps[0]) if len(steps) else 1)
