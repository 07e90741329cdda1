"""Field stack: what several files hold of one field at different levels, or of different members, as one field."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal, get_args

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pelagos.preprocessing.assumptions import ask, assume
from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.quantities import dates
from pelagos.preprocessing.sources.arrays.common_units import common_units
from pelagos.preprocessing.sources.arrays.concatenated_array import ConcatenatedArray
from pelagos.preprocessing.sources.arrays.derived_arrays import WithTrailingAxis
from pelagos.preprocessing.sources.formats.cf_file import CFField
from pelagos.preprocessing.sources.formats.cf_join import KINDS_OF_LEVEL, joined
from pelagos.preprocessing.sources.formats.scalar_coordinate import ScalarCoordinate

StackAxis = Literal["trajectory", "level"]
_KIND: Mapping[StackAxis, Literal["level", "member"]] = {"level": "level", "trajectory": "member"}
_PLURAL: Mapping[StackAxis, str] = {"level": "levels", "trajectory": "members"}


@dataclass(frozen=True, eq=False)
class _Place:
    """Where one file's part of a field lies along an axis: at its own entries, or at a scalar coordinate.

    Attributes:
        name: of the coordinate.
        kind: what it measures, its standard name where it has one.
        values: (K,) numbers or texts.
        attrs: of the coordinate.
    """

    name: str
    kind: str
    values: NDArray[Any]
    attrs: Mapping[str, Any]

    @property
    def units(self) -> str:
        """Empty where the file states none."""
        return str(self.attrs.get("units", ""))

    def __str__(self) -> str:
        entries = [f"{one:g}" if isinstance(one, float) else str(one) for one in self.values.tolist()]
        listed = ", ".join(entries[:6]) + (", ..." if len(entries) > 6 else "")
        return f"{self.name} {listed}{f' {self.units}' if self.units not in ('', '1') else ''}"


def stacked(name: str, found: Sequence[CFField]) -> list[CFField]:
    """One field of several files: at all their levels, of all their members, and joined in time.

    Raises:
        DataError: the files hold different fields under this name, or their levels or members at different times.
    """
    if not found[0].dated:
        # A static field that the files of all members repeat is compared as it is read.
        return joined(name, [replace(one, scalars=_without(one, "member")) for one in found])
    for axis in get_args(StackAxis):
        groups = _groups(name, axis, found)
        if len(groups) > 1:
            return list(_stack(name, axis, [(place, stacked(name, fields)) for place, fields in groups]))
    return joined(name, list(found))


def _without(field: CFField, kind: str) -> dict[str, ScalarCoordinate]:
    return {name: one for name, one in field.scalars.items() if one.kind != kind}


def _groups(name: str, axis: StackAxis, found: Sequence[CFField]) -> list[tuple[_Place, list[CFField]]]:
    """The files that share their place along an axis, by place; a single group where nothing can be stacked."""
    alone = [(_Place("", "", np.zeros(1), {}), list(found))]
    places = [_place(axis, one) for one in found]
    if len({(one.key, one.axes) for one in found}) > 1 or len(found) < 2:
        return alone
    if any(place is None for place in places):
        _ask_about_unsaid(name, axis, found, places)
        return alone
    known = [place for place in places if place is not None]
    _require_one_kind(name, found, known)
    units, changes = common_units(
        known[0].name, [(one.file.place, place.units) for one, place in zip(found, known, strict=True)]
    )
    groups: list[tuple[_Place, list[CFField]]] = []
    for one, place, change in zip(found, known, changes, strict=True):
        values = place.values if change.changes_nothing else change(place.values)
        here = replace(place, values=values, attrs=dict(place.attrs) | ({"units": units} if units else {}))
        for other, fields in groups:
            if _same(other.values, here.values):
                fields.append(one)
                break
        else:
            groups.append((here, [one]))
    _require_apart(name, groups)
    return sorted(groups, key=lambda group: group[0].values[0])


def _require_apart(name: str, groups: Sequence[tuple[_Place, list[CFField]]]) -> None:
    """Raise DataError where files share some of their levels, but not all."""
    for number, (place, fields) in enumerate(groups):
        for other, others in groups[:number]:
            for value in place.values:
                if any(_same(np.array([value]), np.array([one])) for one in other.values):
                    raise DataError(
                        f"{others[0].file.place} holds {name} at {other} and {fields[0].file.place} at {place}, and so"
                        f" share {value:g} only: files with the same levels, or without a common one, can be joined;"
                        " list those in source.paths, or make a dataset of each"
                    )


def _same(one: NDArray[Any], two: NDArray[Any]) -> bool:
    if one.shape != two.shape or one.dtype.kind != two.dtype.kind:
        return False
    return bool(np.allclose(one, two, rtol=1e-6, atol=0) if one.dtype.kind == "f" else (one == two).all())


def _place(axis: StackAxis, field: CFField) -> _Place | None:
    """Where a file's part of a field lies along an axis, if that is one coordinate."""
    if axis in field.file.coordinates and axis in field.axes:
        if (
            axis == "trajectory"
        ):  # starts of forecasts, which follow one another elsewhere, or members already
            return None
        stored = field.file.coordinates[axis]
        return _Place(axis, str(stored.attrs.get("standard_name", axis)), stored.values, stored.attrs)
    if axis == "trajectory" and axis in field.file.coordinates:
        return None
    scalars = {name: one for name, one in field.scalars.items() if one.kind == _KIND[axis]}
    # A level may also be an attribute, beside the coordinate or alone.
    scalars = {name: one for name, one in scalars.items() if not isinstance(one.value, str)} or scalars
    if len(scalars) != 1:
        return None
    ((name, one),) = scalars.items()
    said = {"units": one.units, "standard_name": one.standard_name}
    return _Place(
        name, one.standard_name or name, _entries(one), {key: text for key, text in said.items() if text}
    )


def _entries(one: ScalarCoordinate) -> NDArray[Any]:
    try:
        return np.array([float(one.value)])
    except ValueError:  # members may have names
        return np.array([str(one.value)])


def _require_one_kind(name: str, found: Sequence[CFField], places: Sequence[_Place]) -> None:
    """Raise DataError where two files give heights and pressures, say, of one field."""
    kinds = dict(zip((place.kind for place in places), found, strict=True))
    known = [kind for kind in kinds if kind in KINDS_OF_LEVEL]
    if len(known) > 1:
        one, two = known[:2]
        raise DataError(
            f"{kinds[one].file.place} holds {name} at a level of {one} and {kinds[two].file.place} at one of {two}:"
            " tell them apart by rename, or make a dataset of each"
        )


def _ask_about_unsaid(
    name: str, axis: StackAxis, found: Sequence[CFField], places: Sequence[_Place | None]
) -> None:
    """Ask where some files say at which level or of which member a field is, and others do not."""
    said = next((i for i, place in enumerate(places) if place is not None), None)
    unsaid = next(
        (
            one
            for one, place in zip(found, places, strict=True)
            if place is None and not any(scalar.kind == _KIND[axis] for scalar in one.scalars.values())
        ),
        None,
    )
    if said is None or unsaid is None or axis in unsaid.file.coordinates:
        return
    # Analyses and deterministic forecasts are number 0 in GRIB, and have none elsewhere.
    if axis == "trajectory" and all(place is None or place.values[0] == 0 for place in places):
        return
    text = f"{found[said].file.place} holds {name} at {places[said]}, and {unsaid.file.place} does not say at which"
    ask("levels", name, f"{text}; taken as the same", "list the files that belong together in source.paths")


def _stack(name: str, axis: StackAxis, parts: Sequence[tuple[_Place, list[CFField]]]) -> Iterator[CFField]:
    """The field of all parts, for each file in time."""
    for pair in pairwise(parts):
        (place, fields), (other_place, others) = sorted(pair, key=lambda part: str(part[1][0].file.place))
        if [_times(one) for one in fields] != [_times(one) for one in others]:
            raise DataError(
                f"{fields[0].file.place} holds {name} at {place} {_span(fields)}, and {others[0].file.place} at"
                f" {other_place} {_span(others)}: {_PLURAL[axis]} are joined where files have the same times; give such"
                f" files, or make a dataset of each"
            )
    values = np.concatenate([place.values for place, _ in parts])
    told = "; ".join(f"{fields[0].file.place} at {place}" for place, fields in parts[:4])
    more = f"; and {len(parts) - 4} more" if len(parts) > 4 else ""
    text = f"{name} is in several files: {told}{more}; joined as {len(values)} {_PLURAL[axis]}"
    assume("levels", name, text, f"source.paths: the files of one {_KIND[axis]}, to read no others")
    units, changes = common_units(
        name, [(fields[0].file.place, str(fields[0].attrs.get("units", "")).strip()) for _, fields in parts]
    )
    coordinate = xr.Variable((axis,), values, parts[0][0].attrs)
    for column in zip(*(fields for _, fields in parts), strict=True):
        readers = [change.of(one.reader) for change, one in zip(changes, column, strict=True)]
        axes = column[0].axes
        if axis not in axes:
            readers, axes = [WithTrailingAxis(reader) for reader in readers], (*axes, axis)
        along = ConcatenatedArray(readers[0], tuple(readers[1:]), axes.index(axis))
        file = replace(column[0].file, coordinates={**column[0].file.coordinates, axis: coordinate})
        yield replace(
            column[0],
            reader=along,
            axes=axes,
            file=file,
            attrs={**column[0].attrs} | ({"units": units} if units else {}),
            scalars=_without(column[0], _KIND[axis]),
            rounding=max(one.rounding for one in column),
        )


def _times(field: CFField) -> list[Any]:
    found = [
        field.file.coordinates[axis] for axis in ("trajectory", "time") if axis in field.file.coordinates
    ]
    return [(str(one.attrs.get("units", "")), one.values.tolist()) for one in found]


def _span(fields: Sequence[CFField]) -> str:
    first, last = (one.file.coordinates["time"].values for one in (fields[0], fields[-1]))
    ends = [dates.text_of(end) if dates.is_dated(first) else f"{end:g}" for end in (first[0], last[-1])]
    return f"from {ends[0]} to {ends[1]}"
