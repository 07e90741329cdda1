"""Writing the Zarr group around the shards: coordinates and splits before them, statistics after them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec

from pelagos.preprocessing.assumptions import ASSUMPTIONS, Assumption
from pelagos.preprocessing.build.partition import chunk_of
from pelagos.preprocessing.build.plan import Plan
from pelagos.preprocessing.build.source_records import SourceRecord, software
from pelagos.preprocessing.build.store_coding import StoreCoding
from pelagos.preprocessing.channel_statistics.measures import Measures, statistics_of
from pelagos.preprocessing.fields.regrid_cells import CellRegridder
from pelagos.preprocessing.fields.store_channel import StoreChannel
from pelagos.preprocessing.grid import Grid
from pelagos.preprocessing.quantities import dates
from pelagos.preprocessing.quantities.units import conversion
from pelagos.preprocessing.store.coding import Coding
from pelagos.preprocessing.store.format import ABSENT, CODED_FORMAT, FORMAT, SPLITS, UNUSED
from pelagos.preprocessing.store.shard_layout import ShardLayout, consolidate_metadata
from pelagos.preprocessing.variables import keys

_CONVENTIONS = "CF-1.12 ACDD-1.3"
_CODING_ATTRS = {
    "scale": "scale_factor",
    "offset": "add_offset",
    "rms_error": "rms_error",
    "largest_error": "largest_error",
    "increment_rms_error": "increment_rms_error",
}
"""CF's names of what a coding records, in the order of writing, which a repair must repeat: the manifest sorts them."""
_LEVEL_ATTRS = ("units", "standard_name", "long_name", "positive", "boundary")


def write_skeleton(folder: Path, plan: Plan, coding: StoreCoding | None = None) -> None:
    """Write a group with all arrays but the statistics, without the shards of `state` and `static`.

    Args:
        folder: of the group.
        plan: of the build.
        coding: of its channels, where they are kept in 16 bits.
    """
    group, fields = zarr.open_group(folder, mode="w", zarr_format=3), plan.fields
    _write_array(
        group,
        "trajectory",
        _identifiers(plan),
        ("trajectory",),
        {"long_name": "identifier of the trajectory"},
    )
    _write_array(group, "time", *_time(plan))
    if fields.time_units == "months":
        _write_array(group, "date", *_date(plan))
    elif "start" in fields.dataset.coords:
        _write_array(group, "date", *_valid_dates(plan))
    _write_array(group, "y", fields.grid.y, ("y",), _axis_attrs("y", fields.grid))
    _write_array(group, "x", fields.grid.x, ("x",), _axis_attrs("x", fields.grid))
    words = {UNUSED: "unused", **dict(enumerate(SPLITS))}
    # Only where there are any, so that other stores keep the bytes that earlier versions wrote.
    if (plan.codes == ABSENT).any():
        words = {ABSENT: "absent", **words}
    flags = {"flag_values": list(words), "flag_meanings": " ".join(words.values())}
    _write_array(
        group, "split", plan.codes, ("trajectory", "time"), flags | {"long_name": "split of each frame"}
    )
    named = {"long_name": "name of the field, with its level"}
    _write_array(group, "channel", _texts(keys(c.variable for c in fields.state)), ("channel",), named)
    _create_sharded(group, "state", plan.state, ("trajectory", "time", "channel", "y", "x"))
    if fields.static:
        leading = "trajectory" if fields.varying_static else "common"
        _write_array(
            group,
            "static_channel",
            _texts(keys(c.variable for c in fields.static)),
            ("static_channel",),
            named,
        )
        _create_sharded(group, "static", plan.static, (leading, "static_channel", "y", "x"))
    if fields.params:
        values = np.stack(list(fields.params.values()), axis=1)
        _write_array(
            group, "param", _texts(fields.params), ("param",), {"long_name": "name of the parameter"}
        )
        _write_array(
            group, "params", values, ("trajectory", "param"), {"long_name": "parameters of each trajectory"}
        )
    if coding is not None:
        _write_coding(group, "", coding.state)
        if fields.static:
            _write_coding(group, "static_", coding.static)
    for step in fields.target.steps:
        if isinstance(step, CellRegridder):
            _write_weights(group.require_group("regrid"), step)


def _write_coding(group: zarr.Group, prefix: str, coding: Coding) -> None:
    array = prefix.rstrip("_") or "state"
    for name, values in (("scale", coding.scale), ("offset", coding.offset)):
        attrs = {"long_name": f"{name} of each channel: value = {array} * {prefix}scale + {prefix}offset"}
        _write_array(group, f"{prefix}{name}", values, (f"{prefix}channel",), attrs)


def _write_weights(group: zarr.Group, regridder: CellRegridder) -> None:
    """Keep the sparse weights by which cells became rows and columns, in compressed rows."""
    weights = regridder.weights
    boxes = "boxes are points of (y, x), row by row"
    _write_array(
        group,
        "start",
        weights.indptr.astype(np.int64),
        ("box_end",),
        {"long_name": f"first weight of each box; {boxes}"},
    )
    _write_array(
        group, "cell", weights.indices.astype(np.int64), ("weight",), {"long_name": "cell of the source"}
    )
    _write_array(
        group, "weight", weights.data, ("weight",), {"long_name": "weight, before division by their sum"}
    )


def _texts(values: Any) -> NDArray[Any]:
    return np.array(list(values), dtype=object)


def _identifiers(plan: Plan) -> NDArray[Any]:
    found = plan.fields.dataset["trajectory"].values
    return found if found.dtype == np.int64 else _texts(map(str, found))


def _time(plan: Plan) -> tuple[NDArray[Any], tuple[str], dict[str, Any]]:
    axis, common = plan.fields.axis, {"axis": "T", "long_name": "time"}
    if plan.fields.time_units == "months":
        # Months are of several lengths, but networks know one distance of frames.
        return dates.months_since_first(axis), ("time",), common | {"units": "months"}
    if dates.is_dated(axis):
        values, dims, dated = _date(plan)
        return values, dims, common | dated
    # CF keeps the standard name `time` for dates; these count from the start of each trajectory.
    return axis.astype(np.float64), ("time",), common | {"units": plan.fields.time_units}


def _date(plan: Plan) -> tuple[NDArray[Any], tuple[str], dict[str, Any]]:
    axis = plan.fields.axis
    attrs = {"standard_name": "time", "units": dates.EPOCH, "calendar": dates.calendar_of(axis)}
    return dates.seconds(axis).astype(np.int64), ("time",), attrs


def _valid_dates(plan: Plan) -> tuple[NDArray[Any], tuple[str, str], dict[str, Any]]:
    """(N, T) dates at which the frames of forecasts are valid, in seconds."""
    starts, (scale, _) = plan.fields.dataset["start"].values, conversion(plan.fields.time_units, "s")
    values = dates.seconds(starts)[:, None] + scale * plan.fields.axis
    attrs = {"standard_name": "time", "units": dates.EPOCH, "calendar": dates.calendar_of(starts)}
    return (
        np.rint(values).astype(np.int64),
        ("trajectory", "time"),
        attrs | {"long_name": "date at which the frame is valid"},
    )


def _axis_attrs(axis: str, grid: Grid) -> dict[str, Any]:
    if grid.kind == "cartesian":
        return {"axis": axis.upper(), "units": grid.units, "long_name": f"coordinate along {axis}"}
    name, units = ("latitude", "degrees_north") if axis == "y" else ("longitude", "degrees_east")
    return {"axis": axis.upper(), "standard_name": name, "long_name": name, "units": units}


def _write_array(
    group: zarr.Group,
    name: str,
    values: NDArray[Any],
    dims: tuple[str, ...],
    attrs: dict[str, Any] | None = None,
    chunk: tuple[int, ...] = (),
) -> None:
    """Write an array as one file: a single chunk, or a shard of several."""
    texts, whole = values.dtype == object, tuple(max(1, size) for size in values.shape)
    chunk = chunk or whole
    array = group.create_array(
        name,
        shape=values.shape,
        chunks=chunk,
        shards=None if chunk == whole else tuple(-(-n // c) * c for n, c in zip(whole, chunk, strict=True)),
        dtype="str" if texts else values.dtype,
        compressors=None,
        fill_value="" if texts else _fill_value(values.dtype),
        dimension_names=dims,
        attributes=attrs or {},
        overwrite=True,
        config={"write_empty_chunks": True},  # else an array of nothing but fill values would have no file
    )
    array[...] = values


def _fill_value(dtype: np.dtype[Any]) -> Any:
    return np.nan if dtype.kind == "f" else dtype.type(0)


def _create_sharded(group: zarr.Group, name: str, layout: ShardLayout, dims: tuple[str, ...]) -> None:
    """Create a sharded array without its shards, which other tasks write."""
    # Every setting is given: bytes must not depend on the defaults of a version of zarr.
    blosc = BloscCodec(typesize=layout.item_bytes, cname="lz4", clevel=5, shuffle="shuffle", blocksize=0)
    group.create_array(
        name,
        shape=layout.shape,
        shards=layout.shard,
        chunks=layout.chunk,
        dtype=layout.dtype,
        compressors=None if layout.codec == "none" else [blosc],
        fill_value=np.nan,  # a shard that is missing reads as missing values and never as zeros
        dimension_names=dims,
    )


def write_statistics(folder: Path, plan: Plan, measures: Measures, *, cut_mask: bool = True) -> None:
    """Write the mask and the group `stats` of float64 arrays (channel,) or (static_channel,).

    Args:
        folder: the store.
        plan: plan of the build.
        measures: measures of all parts together.
        cut_mask: whether to cut a large mask into chunks of one file; early versions did not.
    """
    group = zarr.open_group(folder, mode="r+")
    mask = measures.mask if measures.state.count.any() else np.ones(plan.state.frame, bool)
    attrs = {"long_name": "where a value ever exists in the training split"}
    chunk = chunk_of(mask.shape, mask.itemsize) if cut_mask else ()
    _write_array(group, "mask", mask, ("channel", "y", "x"), attrs, chunk)
    stats = group.require_group("stats")
    for name, values in statistics_of(measures).items():
        static = name.startswith("static_")
        if plan.fields.static or not static:
            _write_array(stats, name, values, ("static_channel" if static else "channel",))


def write_attributes(
    folder: Path,
    plan: Plan,
    sources: list[SourceRecord],
    rounding: NDArray[np.float64],
    num_missing: int,
    assumptions: Sequence[Assumption] | None,
    coding: Mapping[str, Any] | None = None,
) -> None:
    """CF and ACDD attributes, what `open_store` needs, provenance; and all metadata in one file.

    Assumptions are None only for a store of before they were recorded; `coding` is as `recorded_rounding` makes it.
    """
    group = zarr.open_group(folder, mode="r+")
    state = [
        _channel_attrs(channel, error)
        for channel, error in zip(plan.fields.state, rounding.tolist(), strict=True)
    ]
    _add_coding(state, coding, "state")
    group["state"].attrs.put({"long_name": "fields that depend on time, one a channel", "channels": state})
    if plan.fields.static:
        static = [_channel_attrs(channel, 0.0) for channel in plan.fields.static]
        _add_coding(static, coding, "static")
        group["static"].attrs.put({"long_name": "fields without time, one a channel", "channels": static})
    config, source = plan.config, plan.fields.dataset.attrs
    documentation = {
        "title": config.title or str(source.get("title", "")) or config.dataset,
        "license": config.license or str(source.get("license", "")),
        "references": config.references or str(source.get("references", "")),
    }
    group.attrs.put(
        {
            "Conventions": _CONVENTIONS,
            "id": f"{config.dataset}-{config.version}",
            "product_version": config.version,
            "source": source["source_format"],
            "summary": _summary(plan),
            "history": f"built by pelagos {software()['pelagos']}",
            "processing_level": "gridded, channels stacked, no values normalised",
            **{name: text for name, text in documentation.items() if text},
            **_coverage(plan),
            **config.attributes,
            "provenance": {
                "config": config.content(),
                "sources": [record.published() for record in sources],
                "software": software(),
            },
            "pelagos": _description(plan, num_missing),
            **({} if assumptions is None else {ASSUMPTIONS: [one.to_json() for one in assumptions]}),
        }
    )
    consolidate_metadata(folder)


def _summary(plan: Plan) -> str:
    num, length, *_ = plan.state.shape
    height, width = plan.fields.grid.shape
    names = ", ".join(dict.fromkeys(channel.variable.name for channel in plan.fields.state))
    return f"{num} trajectories of {length} frames of {height} x {width} points: {names}"


def _coverage(plan: Plan) -> dict[str, Any]:
    """The attributes of ACDD that say where and when, for latitudes, longitudes and dates."""
    grid, axis = plan.fields.grid, plan.fields.axis
    found: dict[str, Any] = {}
    if grid.kind == "latlon":
        for name, values in (("lat", grid.y), ("lon", grid.x)):
            found |= {
                f"geospatial_{name}_min": float(values.min()),
                f"geospatial_{name}_max": float(values.max()),
            }
    if dates.is_dated(axis):
        first, last = (dates.text_of(axis[frame]) for frame in (0, -1))
        found |= {"time_coverage_start": f"{first}Z", "time_coverage_end": f"{last}Z"}
    return found


def _add_coding(channels: Sequence[dict[str, Any]], coding: Mapping[str, Any] | None, array: str) -> None:
    """Say of each channel how it is kept in 16 bits, in the names of CF, and with which error."""
    if coding is not None:
        for number, channel in enumerate(channels):
            channel.update({name: coding[array][key][number] for key, name in _CODING_ATTRS.items()})


def _channel_attrs(channel: StoreChannel, error: float) -> dict[str, Any]:
    variable = channel.variable
    attrs: dict[str, Any] = {
        "name": variable.key,
        "units": variable.units,
        "long_name": variable.long_name,
        **channel.attrs,
    }
    if variable.transform is not None:
        # A standard name implies the units of the physical field, which transformed values no longer have.
        stored = {"units": variable.transform.stored_units(variable.units), "standard_name": ""}
        attrs |= {**stored, "long_name": variable.describe_values()}
        attrs["transform"] = {**variable.transform.model_dump(), "units": variable.units}
    if channel.bits is not None:
        # As attributes of the channel: the container variable of CF 1.12, section 8.4, would serve all channels.
        how = {"algorithm": "bitround", "implementation": f"pelagos {software()['pelagos']}"}
        attrs |= {"quantization": how, "quantization_nsb": channel.bits, "quantization_relative_error": error}
    return {name: value for name, value in attrs.items() if value != ""}


def _description(plan: Plan, num_missing: int) -> dict[str, Any]:
    fields = plan.fields
    return {
        "format": FORMAT if plan.config.dtype == "float32" else CODED_FORMAT,
        "dataset": plan.config.dataset,
        "version": plan.config.version,
        "variables": [channel.variable.model_dump() for channel in fields.state],
        "static_variables": [channel.variable.model_dump() for channel in fields.static],
        "params": list(fields.params),
        "grid": fields.grid.to_json(),
        "time_units": fields.time_units,
        "num_missing": num_missing,
        "static_varies": fields.varying_static,
        **_level(plan),
        **({"files": plan.feeds} if plan.feeds else {}),
    }


def _level(plan: Plan) -> dict[str, dict[str, str]]:
    """What the numbers after @ in the channels' names are, where the source says so."""
    channels = (*plan.fields.state, *plan.fields.static)
    if all(channel.level is None for channel in channels):
        return {}
    attrs = plan.fields.dataset["level"].attrs
    found = {name: str(attrs[name]) for name in _LEVEL_ATTRS if name in attrs}
    return {"level": found} if found else {}
