"""APEBench (Koehler et al. 2024, arXiv:2411.00180): `NAME_train.npy`, beside it `NAME.json`.

Arrays are (sample, time, channel, x[, y[, z]]); domains are periodic and leave out the right end. The JSON's `info`
holds the settings of the scenario: `dt` and `domain_extent` for physical scenarios (`2d_phy_..`), neither for those
by difficulty; many copies come without it. Training and test files have different horizons, so each becomes a dataset
of its own.

Its vorticity is the Laplacian of a stream function with u = +d/dy of it: positive where the flow turns clockwise. Its
sign is the opposite of Pelagos's own, so it is called `clockwise_vorticity`.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr
from pydantic import PositiveFloat

from pelagos.preprocessing.errors import ConfigError, DamagedFileError, DataError
from pelagos.preprocessing.sources import convention
from pelagos.preprocessing.sources.arrays import keyed_file
from pelagos.preprocessing.sources.arrays.array_reader import ArrayReader
from pelagos.preprocessing.sources.arrays.join_files import FileContents, FileField, join_files, periodic_axis
from pelagos.preprocessing.sources.arrays.npy_file import NpyArray
from pelagos.preprocessing.sources.file_source import FileSource
from pelagos.preprocessing.sources.finding import ArchiveListing, Finding

_CLOCKWISE = "clockwise_vorticity"
_VORTICITY = ("kolm_flow", "decay_turb")
_PARAMETERS = ("diffusivity", "drag")


class APEBench(FileSource):
    """Reads `.npy` files of APEBench; several of one horizon are concatenated.

    Attributes:
        kind: "apebench".
        variables: names of the channels in order.
        dt: time between frames; replaces the JSON's.
        length: extent of the domain along each axis; replaces the JSON's.
    """

    kind: Literal["apebench"] = "apebench"
    variables: tuple[str, ...] = ()
    dt: PositiveFloat | None = None
    length: PositiveFloat | None = None

    @classmethod
    def recognise(cls, listing: ArchiveListing) -> Finding | None:
        """`.npy` files of four to six axes."""
        key = next(iter(listing.shapes), "")
        if listing.container not in ("npy", "npz") or len(listing.shapes) != 1:
            return None
        if listing.rank(key) not in _AXES or np.dtype(listing.types[key]).kind not in "fc":
            return None
        info = _info(listing.path)
        named = re.fullmatch(r"\d\w*_(train|test)", listing.path.stem) is not None
        shape = listing.shapes[key]
        axes = ", ".join(("sample", "time", "channel", *_AXES[len(shape)]))
        evidence = f"an .{listing.container} file of shape {shape}, read as ({axes})"
        evidence += ", named as APEBench's" * named + ", with its JSON" * bool(info)
        ask = {}
        if not info.get("dt"):
            ask["dt"] = "time between frames; 1 counts in frames"
        if not info.get("domain_extent"):
            ask["length"] = "extent of the domain along each axis; 1 counts in domains"
        if not _channels(listing.path, shape[2], len(shape) - 3):
            ask["variables"] = f"names of its {shape[2]} channels, as in [velocity_x, velocity_y]"
        return Finding("apebench", "likely" if named or info else "possible", evidence, ask=ask)

    def open(self) -> xr.Dataset:
        """The dataset in the convention; reads no field.

        Raises:
            ConfigError: if times, lengths or names of channels must be given.
            DataError: for files of several horizons.
        """
        contents = [self._contents(path) for path in self.files()]
        periodic = convention.on_all_sides("periodic")
        return join_files(contents, self, periodic, source_format="apebench", references="arXiv:2411.00180")

    def _contents(self, path: Path) -> FileContents:
        reader, info = _array(path), _info(path)
        shape = reader.shape
        if len(shape) not in _AXES:
            raise DataError(
                f"{path} has shape {shape}; (sample, time, channel, x), (.., x, y) or (.., x, y, z) would be right"
            )
        dt, length = (
            self._known(path, info, *options) for options in (("dt", "dt"), ("length", "domain_extent"))
        )
        spatial = tuple("level" if axis == "z" else axis for axis in _AXES[len(shape)])
        axes = ("trajectory", "time", "channel", *spatial)
        fields = {
            name: FileField("prognostic", tuple(i if axis == "channel" else axis for axis in axes), reader)
            for i, name in enumerate(self._names(path, shape))
        }
        coordinates = {"time": np.arange(shape[1], dtype=np.float64) * dt}
        coordinates |= {axis: periodic_axis(n, length) for axis, n in zip(spatial, shape[3:], strict=True)}
        # What diffuses vorticity is a viscosity.
        scalars = {
            "viscosity" if key == "diffusivity" and _CLOCKWISE in fields else key: np.array(float(info[key]))
            for key in _PARAMETERS
            if isinstance(info.get(key), int | float)
        }
        return FileContents(path, shape[0], coordinates, fields, scalars)

    def _known(self, path: Path, info: Mapping[str, Any], option: str, key: str) -> float:
        value = getattr(self, option) or info.get(key)
        if value:
            return float(value)
        raise ConfigError(
            f"{option}: {path} does not hold it, nor does {_json(path).name} beside it; give it, or 1 to"
            f" count in {'frames' if option == 'dt' else 'domains'}"
        )

    def _names(self, path: Path, shape: tuple[int, ...]) -> tuple[str, ...]:
        names = self.variables or _channels(path, shape[2], len(shape) - 3)
        if "vorticity" in names and _holds_vorticity(path):
            raise ConfigError(
                f"variables: {path} holds a vorticity that is positive where the flow turns clockwise, the other sign"
                f" than Pelagos's; call it {_CLOCKWISE}, and where the usual sign is needed, turn it by rename:"
                f" {{{_CLOCKWISE}: vorticity}} and convert: {{vorticity: {{units: '1', scale: -1}}}}"
            )
        if len(names) != shape[2]:
            raise ConfigError(
                f"variables: {path} of shape {shape} has {shape[2]} channels; give {shape[2]} names,"
                f" not {len(names)}"
            )
        return names


_AXES = {4: "x", 5: "xy", 6: "xyz"}


def _channels(path: Path, count: int, dims: int) -> tuple[str, ...]:
    """Names of the channels, where the scenario's name or their number tells them."""
    if count == 1:
        return (_CLOCKWISE if _holds_vorticity(path) else "u",)
    burgers = "burgers" in path.stem and count == dims
    return ("velocity_x", "velocity_y", "velocity_z")[:count] if burgers else ()


def _holds_vorticity(path: Path) -> bool:
    return any(name in path.stem for name in _VORTICITY)


def _array(path: Path) -> ArrayReader:
    """The array of an `.npy` file, or the only one of an `.npz` file."""
    if not keyed_file.is_zip(path):
        return NpyArray.of(path)
    held = keyed_file.tensors(path)
    if len(held) != 1:
        raise DataError(f"{path} holds {', '.join(held) or 'no array'}; a single array would be right")
    return next(iter(held.values()))


def _json(path: Path) -> Path:
    return path.with_name(re.sub(r"_(train|test)$", "", path.stem) + ".json")


def _info(path: Path) -> Mapping[str, Any]:
    """The settings of the scenario; empty where there is no JSON beside the file."""
    beside = _json(path)
    if not beside.is_file():
        return {}
    try:
        info = json.loads(beside.read_bytes())["info"]
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedFileError(f"{beside}: not the JSON of an APEBench scenario ({error!r})") from error
    return info if isinstance(info, dict) else {}
