"""ScalarCoordinate: what a field is at a single value of, such as its level where it has no axis of levels."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import xarray as xr

from pelagos.preprocessing.assumptions import assume
from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.sources.arrays.common_units import common_units
from pelagos.preprocessing.sources.formats.cf_axes import recognise
from pelagos.preprocessing.sources.formats.valid_time import is_lead_time

_LEVEL_ATTRIBUTES = ("level", "plev", "pressure_level", "height", "depth", "GRIB_level")
"""Attributes in which some programs keep the level of a field that has no axis of levels."""
_MEMBERS = ("number", "member", "ensemble_member", "realization", "realisation")


@dataclass(frozen=True)
class ScalarCoordinate:
    """A coordinate with a single value.

    Attributes:
        kind: what it tells apart; "other" where its name and attributes do not say.
        value: a number or a text.
        units: empty where the file states none.
        standard_name: empty where the file gives none.
    """

    kind: Literal["level", "member", "other"]
    value: float | str
    units: str = ""
    standard_name: str = ""

    def __str__(self) -> str:
        value = self.value if isinstance(self.value, str) else f"{self.value:g}"
        return f"{value} {self.units}" if self.units not in ("", "1") else value


def scalar_coordinates(
    ds: xr.Dataset, key: str, axes: Collection[str], selected: Mapping[str, Any]
) -> dict[str, ScalarCoordinate]:
    """The coordinates with a single value of a field, times excepted."""
    own = ds.variables[key]
    found = {
        key: ScalarCoordinate("level", str(own.attrs[key])) for key in _LEVEL_ATTRIBUTES if key in own.attrs
    }
    for name, stored in ds.variables.items():
        alone = stored.ndim == 0 or (stored.dims == (name,) and name in own.dims and stored.size == 1)
        if not alone or name in axes or name in selected or is_lead_time(ds, str(name)) or name == key:
            continue
        if stored.dtype.kind not in "iufSUOT" or _is_time(stored):
            continue
        kind = _kind(str(name), stored)
        if kind != "other" or (name in ds.coords and name not in ("crs", "spatial_ref")):
            units, standard = (str(stored.attrs.get(key, "")) for key in ("units", "standard_name"))
            found[str(name)] = ScalarCoordinate(kind, _value(stored), units, standard)
    return found


def _is_time(stored: xr.Variable) -> bool:
    return "time" in str(stored.attrs.get("standard_name", "")) or " since " in str(
        stored.attrs.get("units", "")
    )


def _kind(name: str, stored: xr.Variable) -> Literal["level", "member", "other"]:
    if name in _MEMBERS or stored.attrs.get("standard_name") == "realization":
        return "member"
    return "level" if recognise(name, stored) == "level" else "other"


def _value(stored: xr.Variable) -> float | str:
    value = np.ravel(stored.values)[0]
    if stored.dtype.kind in "iuf":
        return float(value)
    return value.decode() if isinstance(value, bytes) else str(value)


Place = tuple[object, Mapping[str, ScalarCoordinate]]


def require_same(field: str, one: Place, two: Place) -> None:
    """Refuse to join a field at one level, or of one member, with the same field at another.

    Raises:
        DataError: a level or member differs. Other coordinates that differ are an assumption.
    """
    (here, first), (there, second) = one, two
    for name in first.keys() & second.keys():
        a, b = first[name], second[name]
        if _equal(name, (here, a), (there, b)):
            continue
        if a.kind == "other":
            if name != "expver":
                text = f"{here} holds {field} at {name} {a} and {there} at {b}, joined in time as one"
                assume("levels", field, text, "make a dataset of each")
            continue
        what = (
            "levels, which are other channels"
            if a.kind == "level"
            else "members, which are other trajectories"
        )
        axis = "level" if a.kind == "level" else "trajectory"
        raise DataError(
            f"{here} holds {field} at {name} {a} and {there} at {name} {b}: these are different {what} and cannot"
            f" follow one another in time; put them along one dimension of a file ({axis}), or make a dataset of each"
        )


def _equal(name: str, one: tuple[object, ScalarCoordinate], two: tuple[object, ScalarCoordinate]) -> bool:
    (here, a), (there, b) = one, two
    if isinstance(a.value, str) or isinstance(b.value, str):
        return a.value == b.value
    _, (_, change) = common_units(name, [(here, a.units), (there, b.units)], unknown_differ=a.kind == "level")
    converted = float(change(np.array(b.value)))
    return bool(np.isclose(a.value, converted, rtol=1e-6, atol=0, equal_nan=True))
