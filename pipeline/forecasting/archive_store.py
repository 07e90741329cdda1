"""Archive store: an archive or a dataset in memory as the store that a forecast starts from, without building one.

Fields are read when they are asked for, in the units, with the transforms and in the roles that a model knows.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from pydantic import TypeAdapter

from pelagos.pipeline.runs.domain_fit import unit_text
from pelagos.pipeline.runs.model_folder import Domain
from pelagos.pipeline.runs.remarks import say
from pelagos.preprocessing.assumptions import Assumptions, collect, describe
from pelagos.preprocessing.errors import ConfigError, DataError
from pelagos.preprocessing.fields.field_options import FieldOptions
from pelagos.preprocessing.fields.field_reader import FieldReader
from pelagos.preprocessing.fields.select_fields import select_fields
from pelagos.preprocessing.fields.solar_forcing import ForcingName, PlaceName
from pelagos.preprocessing.quantities import dates
from pelagos.preprocessing.quantities.date_axis import DateAxis
from pelagos.preprocessing.quantities.units import conversion
from pelagos.preprocessing.sources.formats.recognition import recognise
from pelagos.preprocessing.sources.formats.source import Source
from pelagos.preprocessing.store.frame_reader import FrameReader, Position, scatter
from pelagos.preprocessing.store.sample_store import Statistics
from pelagos.preprocessing.store.store import Store

_SOURCE: TypeAdapter[Any] = TypeAdapter(Source)


def recognised_source(path: str | Path) -> Any:
    """The source that reads an archive, as `pelagos inspect` recognises it.

    Raises:
        MissingFileError: there is nothing.
        DataError: no format recognises it.
        ConfigError: the format cannot tell all that it takes to read it.
    """
    listing, findings = recognise(path)
    if not findings:
        raise DataError(f"{path}: no format recognises it; `pelagos inspect {path}` says what was looked for")
    best = findings[0]
    if best.ask:
        asked = "".join(f"\n  source.{option}: {question}" for option, question in best.ask.items())
        raise ConfigError(
            f"{path} is {best.kind}; to read it, give source={{kind: {best.kind}, paths: {path}, ...}} and{asked}"
        )
    return _SOURCE.validate_python({"kind": best.kind, "paths": listing.paths, **best.options})


def archive_store(
    source: Any, domain: Domain, dataset: str, fields: FieldOptions | None = None, step: float | None = None
) -> Store:
    """The archive of a source as a store, in the form that a model knows its dataset in.

    Args:
        source: of an archive, see `sources.formats.source`.
        domain: what the model knows.
        dataset: its name for the model.
        fields: more options of how fields are read, as of a build.
        step: time between frames, in the model's unit of time, where the archive has one frame; the shortest lead time
            trained by default.

    Raises:
        ConfigError: an option contradicts the data, or a question about them is open.
        DataError: the archive lacks what the model needs.
    """
    where = Path(", ".join(source.paths)) if hasattr(source, "paths") else Path(str(source))
    with collect() as found:
        ds = source.open()
    _require_settled(found, where)
    return dataset_store(ds, domain, dataset, fields, step, where)


def dataset_store(
    ds: xr.Dataset,
    domain: Domain,
    dataset: str,
    fields: FieldOptions | None = None,
    step: float | None = None,
    where: Path = Path("the dataset"),
) -> Store:
    """A dataset in the one convention as a store; see `archive_store`."""
    with collect() as found:
        reader = select_fields(ds, _options(ds, domain, fields or FieldOptions()))
    _require_settled(found, where)
    return _store_of(reader, domain, dataset, step, where)


def _require_settled(found: Assumptions, where: Path) -> None:
    """Refuse open questions, and say what is assumed."""
    if asked := [one for one in found.all if one.question]:
        raise ConfigError(
            f"{where}: before forecasts start from it, say what is right, by source or fields:\n{describe(asked)}"
        )
    for one in found.all:
        say(f"note: {where}: {one}")


def _options(ds: xr.Dataset, domain: Domain, given: FieldOptions) -> FieldOptions:
    """The options that bring a dataset to what a model knows, under those that the user gives."""
    back = {new: old for old, new in given.rename.items()}
    wanted = {one.name: one for one in domain.inputs if back.get(one.name, one.name) in ds}
    clock = set(get_args(ForcingName))
    computed = [one.name for one in domain.inputs if one.name in clock and one.name not in wanted]
    placed = [one.name for one in domain.inputs if one.name in get_args(PlaceName)]
    dated = dates.is_dated(ds["time"].values) and ds.attrs["grid"] == "latlon"
    levels = list(dict.fromkeys(one.level for one in domain.inputs if one.level is not None))
    arrays = {name: ds[back.get(name, name)] for name in wanted}
    options: dict[str, Any] = {
        "variables": tuple(wanted) or None,
        "levels": tuple(levels) if levels and "level" in ds.dims else None,
        "roles": {name: one.role for name, one in wanted.items() if arrays[name].attrs["role"] != one.role},
        "convert": {
            name: one.units for name, one in wanted.items() if arrays[name].attrs["units"] != one.units
        },
        "transforms": {
            name: one.transform.model_dump() for name, one in wanted.items() if one.transform is not None
        },
        "forcings": tuple(computed) if dated else (),
        "places": tuple(name for name in placed if name not in wanted)
        if ds.attrs["grid"] == "latlon"
        else (),
        "missing": "keep",
    }
    return FieldOptions.model_validate({**options, **given.model_dump(exclude_unset=True)})


def _store_of(reader: FieldReader, domain: Domain, dataset: str, step: float | None, where: Path) -> Store:
    variables = tuple(channel.variable for channel in reader.state)
    static = tuple(channel.variable for channel in reader.static)
    present, axis, units = reader.present, reader.axis, reader.time_units
    times, axis_dates = _times(axis, units)
    if len(axis) == 1:
        # Nothing in one frame says how far apart frames are: the next one is there by its time alone.
        length = _step(step, domain, units, where)
        times = np.array([0.0, length])
        present = np.concatenate([present, np.zeros_like(present)], axis=1)
        axis_dates = None if axis_dates is None else _extended(axis_dates, length, units)
    return Store(
        path=where,
        dataset=dataset,
        version="",
        variables=variables,
        static_variables=static,
        params=tuple(reader.params),
        grid=reader.grid,
        times=times,
        time_units=units,
        splits={},
        stats=_no_statistics(len(variables), len(static)),
        mask=np.ones((len(variables), *reader.grid.shape), np.bool_),
        num_missing=0,
        frames=_FieldFrames(reader),
        static_frames=_StaticFrames(reader),
        scalar_values=_scalars(reader),
        level=_level(reader.dataset),
        present=None if present.all() else present,
        dates=axis_dates,
    )


def _times(axis: NDArray[Any], units: str) -> tuple[NDArray[np.float64], DateAxis | None]:
    if not dates.is_dated(axis):
        return (axis - axis[0]).astype(np.float64), None
    if units == "months":
        counted = dates.months_since_first(axis)
        return counted, DateAxis.of(axis, months=round(float(counted[1] - counted[0])))
    seconds = dates.seconds(axis)
    return seconds - seconds[0], DateAxis.of(axis)


def _step(step: float | None, domain: Domain, units: str, where: Path) -> float:
    """The time from one frame to the next, in the unit of an archive that has one frame."""
    known = domain.time_units or units
    length = step if step is not None else domain.min_lead
    if not length:
        raise ConfigError(
            f"{where} has one frame, and the model does not say what lead times it was trained on: give step=TIME, in"
            f" {known}, from one frame of the forecast to the next"
        )
    if step is None:
        say(
            f"note: {where} has one frame: steps are of {length:g}{unit_text(known)}, the shortest lead time trained;"
            " see step"
        )
    return length * conversion(known, units)[0]


def _extended(axis: DateAxis, length: float, units: str) -> DateAxis:
    seconds = length * conversion(units, "s")[0]
    return dataclasses.replace(axis, seconds=np.array([axis.seconds[0], axis.seconds[0] + seconds]))


def _no_statistics(channels: int, static: int) -> Statistics:
    """Statistics of no frame: nothing is known of the values."""
    values: dict[str, Any] = {}
    for one in dataclasses.fields(Statistics):
        size = static if one.name.startswith("static_") else channels
        constant = one.name.endswith("constant")
        fill = 1.0 if one.name.endswith("std") else 0.0
        values[one.name] = np.ones(size, np.bool_) if constant else np.full(size, fill)
    return Statistics(**values)


def _scalars(reader: FieldReader) -> NDArray[np.float64]:
    columns = list(reader.params.values())
    return np.stack(columns, axis=1) if columns else np.empty((reader.num_trajectories, 0))


def _level(ds: xr.Dataset) -> Mapping[str, str]:
    attrs = ds["level"].attrs if "level" in ds.coords else {}
    return {name: str(value) for name, value in attrs.items()}


class _FieldFrames(FrameReader):
    """Frames of the state of an archive."""

    def __init__(self, reader: FieldReader) -> None:
        self._reader = reader

    def read_frame(self, position: Position, buffers: Sequence[NDArray[Any]]) -> None:
        """See FrameReader."""
        trajectory, time = position
        block = self._reader.read(slice(trajectory, trajectory + 1), slice(time, time + 1))
        scatter(np.ascontiguousarray(block[0, 0]), buffers)


class _StaticFrames(FrameReader):
    """Static fields of an archive."""

    def __init__(self, reader: FieldReader) -> None:
        self._reader = reader

    def read_frame(self, position: Position, buffers: Sequence[NDArray[Any]]) -> None:
        """See FrameReader."""
        (trajectory,) = position
        block = self._reader.read_static(slice(trajectory, trajectory + 1))
        scatter(np.ascontiguousarray(block[0]), buffers)
