"""Region: the part of the domain that scores are taken over, a box or the inside of a mask."""

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from pelagos.preprocessing.array_types import Flags, Floats
from pelagos.preprocessing.config import Config
from pelagos.preprocessing.errors import ConfigError
from pelagos.preprocessing.grid import Grid
from pelagos.preprocessing.store.store import Store
from pelagos.preprocessing.variables import keys

NamedRegion = Literal[
    "tropics",
    "extratropics",
    "northern_hemisphere",
    "southern_hemisphere",
    "arctic",
    "antarctic",
    "europe",
    "north_america",
    "north_atlantic",
    "north_pacific",
    "east_asia",
    "australia",
]
Interval = tuple[float, float]
WHOLE = "all"
"""The name of the whole domain."""


class RegionConfig(Config):
    """A box, the inside of a mask, or what both have in common.

    Attributes:
        name: in the scores.
        y: from and to, in the units of the grid; latitudes in degrees.
        x: from and to; longitudes may be east or west, and run from the first eastwards to the second.
        mask: a static field of the store; inside is where it is more than a half.
        complement: whether the region is all but that.
    """

    name: str = Field(min_length=1)
    y: Interval | None = None
    x: Interval | None = None
    mask: str = ""
    complement: bool = False

    @model_validator(mode="after")
    def _not_whole(self) -> "RegionConfig":
        if self.name == WHOLE:
            raise ValueError(f"name: {WHOLE!r} is the whole domain; give the region another name")
        if self.y is None and self.x is None and not self.mask:
            raise ValueError(f"region {self.name}: give it y: [FROM, TO], x: [FROM, TO] or mask: NAME")
        return self


RegionChoice = Annotated[NamedRegion | RegionConfig, Field(union_mode="left_to_right")]

_NORTH, _SOUTH = (20.0, 90.0), (-90.0, -20.0)
# The boxes of the WMO's and ECMWF's score cards, as WeatherBench 2 takes them.
NAMED: dict[NamedRegion, RegionConfig] = {
    "tropics": RegionConfig(name="tropics", y=(-20, 20)),
    "extratropics": RegionConfig(name="extratropics", y=(-20, 20), complement=True),
    "northern_hemisphere": RegionConfig(name="northern_hemisphere", y=_NORTH),
    "southern_hemisphere": RegionConfig(name="southern_hemisphere", y=_SOUTH),
    "arctic": RegionConfig(name="arctic", y=(60, 90)),
    "antarctic": RegionConfig(name="antarctic", y=(-90, -60)),
    "europe": RegionConfig(name="europe", y=(35, 75), x=(-12.5, 42.5)),
    "north_america": RegionConfig(name="north_america", y=(25, 60), x=(-120, -75)),
    "north_atlantic": RegionConfig(name="north_atlantic", y=(25, 65), x=(-70, -10)),
    "north_pacific": RegionConfig(name="north_pacific", y=(25, 60), x=(145, -130)),
    "east_asia": RegionConfig(name="east_asia", y=(25, 60), x=(102.5, 150)),
    "australia": RegionConfig(name="australia", y=(-45, -12.5), x=(120, 175)),
}


@dataclass(frozen=True, eq=False)
class Region:
    """Weights of the points, zero outside, and the rows and columns beyond which there are only zeros."""

    name: str
    weights: Floats
    rows: slice
    columns: slice

    @classmethod
    def of(cls, name: str, inside: Flags, grid: Grid) -> "Region":
        """The region of these points, weighted by their cells' areas."""
        weights = np.where(inside, grid.area_weights(), 0.0)
        rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
        return cls(name, weights, slice(rows[0], int(rows[-1]) + 1), slice(columns[0], int(columns[-1]) + 1))


def whole(grid: Grid) -> Region:
    """The whole domain."""
    return Region.of(WHOLE, np.ones(grid.shape, np.bool_), grid)


def make_regions(choices: tuple[RegionChoice, ...], store: Store) -> tuple[Region, ...]:
    """The whole domain, and the chosen regions on a store's grid.

    Raises:
        ConfigError: a name stands for latitudes that the grid doesn't have, a region has no point, two have the same
            name, or there is no such mask.
    """
    regions = [whole(store.grid)]
    for choice in choices:
        if isinstance(choice, str) and store.grid.kind != "latlon":
            raise ConfigError(f"regions: {choice} is on the sphere; {store.path} has a Cartesian grid")
        config = NAMED[choice] if isinstance(choice, str) else choice
        inside = _inside(config, store) != config.complement
        if not inside.any():
            raise ConfigError(f"regions: no point of {store.path} is in {config.name}")
        if config.name in [region.name for region in regions]:
            raise ConfigError(f"regions: there are two of the name {config.name}")
        regions.append(Region.of(config.name, inside, store.grid))
    return tuple(regions)


def _inside(config: RegionConfig, store: Store) -> Flags:
    grid = store.grid
    inside = _within(grid.y, config.y)[:, None] & _within(grid.x, config.x, grid.kind == "latlon")
    if config.mask:
        names = keys(store.static_variables)
        if config.mask not in names:
            known = ", ".join(names) or "none"
            raise ConfigError(f"regions: {store.path} has no static field {config.mask}; it has {known}")
        inside &= store.static(0)[names.index(config.mask)] > 0.5
    return inside


def _within(positions: Floats, interval: Interval | None, circle: bool = False) -> Flags:
    if interval is None:
        return np.ones(len(positions), np.bool_)
    low, high = interval
    if circle:
        return np.asarray((positions - low) % 360 <= (high - low) % 360)
    return np.asarray((positions >= min(low, high)) & (positions <= max(low, high)))
