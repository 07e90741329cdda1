"""What of a CF variable is missing: values that its attributes mark, values outside its valid range, and unset ones."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pelagos.preprocessing.assumptions import ask, assume
from pelagos.preprocessing.files.location import Url

_NEVER_SET: Mapping[str, float] = {
    "i2": -32767,
    "i4": -2147483647,
    "i8": -9223372036854775806,
    "u2": 65535,
    "u4": 4294967295,
    "u8": 18446744073709551614,
    "f4": 9.969209968386869e36,
    "f8": 9.969209968386869e36,
}
"""What netCDF fills arrays with before values are written (netcdf.h); single bytes have no value to spare."""


@dataclass(frozen=True)
class ValidRange:
    """The least and the greatest value that is not missing.

    Attributes:
        name: file and key, for messages.
        said: the attributes and what they say.
        least: the least valid value; -inf where none is stated.
        greatest: the greatest.
        of_stored: whether the limits are of stored values, else of unpacked ones.
    """

    name: str
    said: str
    least: float
    greatest: float
    of_stored: bool

    @classmethod
    def of(
        cls, path: Path | Url, key: str, stored: xr.Variable, scale: float, offset: float
    ) -> "ValidRange | None":
        """The valid range that a variable's attributes state, if any; what they say in vain is told."""
        said: dict[str, Any] = {}
        limits: list[Any] = [-math.inf, math.inf]
        both = np.ravel(stored.attrs.get("valid_range", ()))
        # netCDF's conventions allow the range or single limits; where a file has both, the range counts.
        names = {"valid_range": (0, 1)} if both.size else {"valid_min": (0,), "valid_max": (1,)}
        for name, sides in names.items():
            stated = stored.attrs.get(name)
            if stated is None:
                continue
            numbers = _numbers(stated)
            if numbers is None or len(numbers) != len(sides):
                count = "two plain numbers" if len(sides) > 1 else "a plain number"
                assume(
                    "missing_values",
                    key,
                    f"{path}: {key} has {name} {stated}, which limits nothing: not {count}",
                )
                continue
            said[name] = stated
            for side, number in zip(sides, numbers, strict=True):
                if not math.isnan(number):
                    limits[side] = number
        if not said or limits == [-math.inf, math.inf]:
            return None
        words = ", ".join(f"{name} {np.ravel(stated).tolist()}" for name, stated in said.items())
        packed = (scale, offset) != (1, 0)
        # NetCDF's conventions: limits of a type wider than the packed one are of unpacked values.
        wider = stored.dtype.kind in "iu" and any(_is_float(one) for one in said.values())
        with np.errstate(over="ignore"):
            if stored.dtype.kind == "f":  # 0.1 of double precision is no value of single precision
                limits = [stored.dtype.type(one).item() for one in limits]
        if packed and wider:  # packing moves a value by up to half a step
            limits = [limits[0] - abs(scale) / 2, limits[1] + abs(scale) / 2]
        if limits[0] > limits[1]:
            assume(
                "missing_values", key, f"{path}: {key} has {words}, which no value is in; it limits nothing"
            )
            return None
        return cls(f"{path}: {key}", words, limits[0], limits[1], not (packed and wider))

    def outside(self, raw: NDArray[Any], unpacked: NDArray[Any]) -> NDArray[np.bool_]:
        """Which values lie outside, and are missing therefore."""
        values = raw if self.of_stored else unpacked
        return np.asarray((values < self.least) | (values > self.greatest))

    def tell(self) -> None:
        """Say that values outside are missing."""
        assume(
            "missing_values",
            self.name.rpartition(": ")[2],
            f"{self.name} has values outside its {self.said}, which are read as missing",
            "accept: [missing_values]; or correct the attributes of the file",
        )


def _numbers(stated: Any) -> list[float] | None:
    """The numbers that an attribute states, be it as text; None where it states something else."""
    if isinstance(stated, bytes | str):
        text = stated.decode(errors="replace") if isinstance(stated, bytes) else stated
        stated = re.split(r"[\s,;]+", text.strip(" []()"))
    try:
        return [float(one) for one in np.ravel(stated).tolist()]
    except (TypeError, ValueError):
        return None


def _is_float(stated: Any) -> bool:
    """Whether an attribute is of a floating-point type; of text, whether it has a decimal point."""
    kind = np.asarray(stated).dtype.kind
    return kind == "f" or (kind in "SUO" and "." in str(stated))


@dataclass(frozen=True)
class NeverSet:
    """The value that netCDF gives to what was never written, where the file states no such mark of its own.

    Attributes:
        name: file and key, for messages.
        value: the stored value.
        plain: whether it may be a value like any other.
    """

    name: str
    value: float
    plain: bool

    @classmethod
    def of(cls, path: Path | Url, key: str, stored: xr.Variable, *, netcdf: bool) -> "NeverSet | None":
        """That of a variable; None where it may be a value like any other, or has nothing to do with netCDF."""
        kind, whole = stored.dtype.kind + str(stored.dtype.itemsize), stored.dtype.kind != "f"
        # A mark that the file states replaces the default, but nobody measures 9.97e36. Zarr knows no default, though
        # what it holds often comes from netCDF.
        if kind not in _NEVER_SET or (whole and ("_FillValue" in stored.attrs or not netcdf)):
            return None
        return cls(f"{path}: {key}", _NEVER_SET[kind], whole)

    def among(self, raw: NDArray[Any]) -> NDArray[np.bool_]:
        """Which stored values are it."""
        return np.asarray(raw == np.array(self.value, raw.dtype))

    def tell(self) -> None:
        """Say that it is missing, or ask where it may be a value."""
        key = self.name.rpartition(": ")[2]
        text = f"{self.name} has values of {self.value:.7g}, netCDF's mark of what was never written"
        if self.plain:
            ask(
                "missing_values",
                key,
                f"{text}; read as missing",
                "accept: [missing_values] if they are; else state a _FillValue in the file that no value has",
            )
        else:
            assume("missing_values", key, f"{text}; read as missing", "accept: [missing_values]")


def marks(path: Path | Url, key: str, stored: xr.Variable) -> tuple[float, ...]:
    """The stored values that CF's attributes say are missing ones; what they say in vain is told."""
    found: list[float] = []
    for name in ("_FillValue", "missing_value"):
        stated = stored.attrs.get(name, ())
        numbers = _numbers(stated)
        if numbers is None:
            text = f"{path}: {key} has {name} {stated!r}, which is no number; taken as marking nothing"
            ask("missing_values", key, text, "correct the attribute, or accept: [missing_values]")
            continue
        # Not as float: the marks of 64-bit integers are exact.
        exact = numbers if isinstance(stated, bytes | str) else np.ravel(stated)
        for mark in exact:
            with np.errstate(over="ignore"):
                held = _as_stored(mark, stored.dtype)
            if held is None and mark == mark:
                text = f"{path}: {key} has the {name} {mark}, which no {stored.dtype} is, so it marks nothing"
                assume("missing_values", key, text)
            elif held is not None and held not in found:
                found.append(held)
    return tuple(found)


def _as_stored(mark: Any, dtype: np.dtype[Any]) -> float | None:
    """A mark in the type of the values; None where no value of that type can be it, so that it marks nothing.

    Cast all the same, 1e20 would become the 0 of a 16-bit integer, which is a value like any other.
    """
    number = mark.item() if isinstance(mark, np.generic) else mark
    if isinstance(number, str | bytes):  # one of several texts
        number = float(number)
    if not isinstance(number, int | float) or number != number:  # NaN differs from itself and needs no mark
        return None
    if dtype.kind == "f":
        rounded = dtype.type(number).item()
        # Beyond the type's range it would be infinity, which is a value, too.
        return rounded if np.isfinite(rounded) or not np.isfinite(number) else None
    if dtype.kind not in "iu" or number != np.floor(number):
        return None
    limits = np.iinfo(dtype)
    return int(number) if limits.min <= number <= limits.max else None
