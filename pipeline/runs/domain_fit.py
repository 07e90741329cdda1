"""Domain fit: how a store differs from the data that a model was trained on, and what is done about it.

What can be undone is undone and said (rows the other way round, another unit of time), what cannot mean the same
is refused (another kind of grid, units that measure different things), and the rest is a warning.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from pelagos.pipeline.runs.model_folder import Domain
from pelagos.pipeline.runs.trained_grid import TrainedGrid
from pelagos.preprocessing.array_types import Float32s
from pelagos.preprocessing.errors import ConfigError, DataError
from pelagos.preprocessing.grid import Grid
from pelagos.preprocessing.quantities.units import conversion
from pelagos.preprocessing.store.sample_store import SampleStore
from pelagos.preprocessing.variables import with_role

# Axes that went through float32 are the same axes.
_TOLERANCE = 1e-3
_AXES = (("y", "rows", -2), ("x", "columns", -1))


@dataclass(frozen=True, eq=False)
class DomainFit:
    """How a store is brought to what a model knows.

    Attributes:
        grid: the store's grid as the model is to see it: in its directions and its unit of length.
        flips: axes of (..., y, x) fields that run the other way in the store.
        time: the store's unit of time in the model's.
        horizon: the longest lead time trained, in the store's unit of time; None where the model does not say.
        notes: differences that are made good.
        warnings: differences that are not.
    """

    grid: Grid
    flips: tuple[int, ...] = ()
    time: float = 1.0
    horizon: float | None = None
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def turned(self, fields: Float32s) -> Float32s:
        """(..., y, x) fields of the store in the model's directions, or those of the model in the store's."""
        return np.flip(fields, self.flips) if self.flips else fields


@dataclass(eq=False)
class _Findings:
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def fit(domain: Domain, store: SampleStore, conditions: Sequence[str]) -> DomainFit:
    """Hold a store against what a model knows of its dataset.

    Args:
        domain: the model's domain for the store's dataset.
        store: the store that the model is to be used on.
        conditions: scalars that the network is given; spacings among them may differ from training.

    Raises:
        DataError: the store's grid, unit of time or levels cannot mean what they meant in training.
    """
    found = _Findings()
    if domain.grid is None or domain.time_units is None:
        found.warnings.append(
            "the model does not record the grid, the unit of time and the lead times of its training, as an earlier"
            f" Pelagos wrote it, or it was imported: they are taken to be those of {store.label}"
        )
        return DomainFit(store.grid, warnings=tuple(found.warnings))
    _check_levels(domain, store)
    time = _time_factor(domain.time_units, store, found)
    grid, flips = _seen_grid(domain.grid, store, found)
    _compare(domain.grid, grid, conditions, found)
    horizon = domain.horizon / time if domain.horizon else None
    return DomainFit(grid, flips, time, horizon, tuple(found.notes), tuple(found.warnings))


def learnt_time_scales(domains: Mapping[str, Domain], store: SampleStore) -> tuple[float, ...]:
    """What lead time 1 was in training [store.time_units]: on the store's dataset, or else on each that evolves."""
    if store.dataset in domains:
        known = [domains[store.dataset]]
    else:
        # Lead time 1 of steady problems is no duration.
        known = [domain for domain in domains.values() if with_role(domain.inputs, "prognostic")]
    units = [store.time_units if domain.time_units is None else domain.time_units for domain in known]
    factors = [_factor(unit, store.time_units) for unit in units]
    found = {
        domain.time_scale * factor
        for domain, factor in zip(known, factors, strict=True)
        if factor is not None
    }
    # Several where datasets differ: then whoever asks has to choose.
    return tuple(sorted(found))


def lead_warnings(domain: Domain, shortest: float, longest: float) -> list[str]:
    """What is to be said of the lead times that a network is asked for, in the model's unit of time."""
    unit = unit_text(domain.time_units or "1")
    if domain.max_lead and longest > domain.max_lead * (1 + _TOLERANCE):
        return [
            f"asked for a lead time of {longest:g}{unit}; the longest that it was trained on is"
            f" {domain.max_lead:g}{unit}: choose a smaller starts.stride, or mode rollout"
        ]
    if domain.min_lead and shortest < domain.min_lead * (1 - _TOLERANCE):
        return [
            f"asked for a lead time of {shortest:g}{unit}; the shortest that it was trained on is"
            f" {domain.min_lead:g}{unit}: choose a larger starts.stride"
        ]
    return []


def reach_notes(domain: Domain, reach: float) -> list[str]:
    """What is to be said of how far forecasts go, in the model's unit of time."""
    if not domain.horizon or reach <= domain.horizon * (1 + _TOLERANCE):
        return []
    unit = unit_text(domain.time_units or "1")
    return [f"forecasts reach a lead time of {reach:g}{unit}, training reached {domain.horizon:g}{unit}"]


def _check_levels(domain: Domain, store: SampleStore) -> None:
    units = level_units(store)
    if not units or not domain.level_units or all(variable.level is None for variable in domain.inputs):
        return
    if _factor(units, domain.level_units) != 1:
        raise DataError(
            f"{store.label} has levels in {units}, the model's are in {domain.level_units}: build the store with"
            f" levels in {domain.level_units}"
        )


def level_units(store: SampleStore) -> str:
    """The unit of a store's levels, empty where it has none."""
    level: Any = getattr(store, "level", {})  # what is simulated has no levels
    return str(level.get("units", ""))


def _time_factor(known: str, store: SampleStore, found: _Findings) -> float:
    factor = _factor(store.time_units, known)
    if factor is None:
        raise DataError(
            f"{store.label} has times in {store.time_units!r}, the model learnt lead times in {known!r}, and neither"
            " can be converted to the other: build the store with the units of time of the training data, or"
            " fine-tune the model on it under another dataset name"
        )
    if factor != 1:
        found.notes.append(
            f"{store.label} has times in {store.time_units}, the model in {known}: lead times are converted"
        )
    return factor


def _seen_grid(known: TrainedGrid, store: SampleStore, found: _Findings) -> tuple[Grid, tuple[int, ...]]:
    """The store's grid in the model's directions and unit, and which axes of its fields have to be flipped."""
    grid, flips = store.grid, []
    if grid.kind != known.kind:
        raise DataError(
            f"{store.label} has a {grid.kind} grid, the model was trained on a {known.kind} one: build the store"
            " with the kind of grid of the training data, or fine-tune the model on it under another dataset name"
        )
    for name, lines, axis in _AXES:
        positions, trained = getattr(grid, name), getattr(known, name)
        if len(positions) > 1 and trained.points > 1 and (positions[-1] > positions[0]) != trained.ascending:
            flips.append(axis)
            found.notes.append(
                f"the {lines} of {store.label} run from {positions[0]:g} to {positions[-1]:g}, in training from"
                f" {trained.first:g} to {trained.last:g}: they are turned round for the model, and its forecasts back"
            )
            # What lies beyond the two edges changes places with them.
            sides = f"boundary_{name}"
            grid = replace(grid, **{name: positions[::-1], sides: getattr(grid, sides)[::-1]})
    return _in_units(grid, known.units, found), tuple(flips)


def _in_units(grid: Grid, units: str, found: _Findings) -> Grid:
    factor = _factor(grid.units, units)
    if factor == 1:
        return grid
    if factor is None:
        found.warnings.append(
            f"the grid is in {grid.units!r}, in training it was in {units!r}: spacings cannot be compared"
        )
        return grid
    found.notes.append(f"the grid is in {grid.units}, in training it was in {units}: spacings are converted")
    return replace(grid, y=grid.y * factor, x=grid.x * factor, units=units)


def _compare(known: TrainedGrid, grid: Grid, conditions: Sequence[str], found: _Findings) -> None:
    """Warn of what differs between the grid of training and that which the model is to see."""
    if _factor(grid.units, known.units) is not None:
        found.warnings.extend(_spacing_warnings(known, grid, conditions))
    for (name, lines, _), periodic in zip(_AXES, grid.periodic, strict=True):
        trained = getattr(known, name)
        if periodic != trained.periodic:
            words = {True: "periodic", False: "not periodic"}
            found.warnings.append(
                f"the grid is {words[periodic]} along {name}, in training it was {words[trained.periodic]}"
            )
        ends = getattr(grid, name)[[0, -1]]
        # Half a spacing: a region told by the centres of its cells and by their corners is the same.
        elsewhere = np.abs(ends - (trained.first, trained.last)).max() > 0.5 * trained.spacing
        # The origin of a Cartesian axis is anybody's choice; a latitude is a place, with its climate and its Coriolis
        # force.
        if grid.kind == "latlon" and elsewhere:
            found.warnings.append(
                f"the {lines} lie from {ends[0]:g} to {ends[1]:g} degrees, in training from {trained.first:g} to"
                f" {trained.last:g}"
            )


def _spacing_warnings(known: TrainedGrid, grid: Grid, conditions: Sequence[str]) -> list[str]:
    """One warning of all axes whose spacing is another and of which the network is not told."""
    unit, differences, wanted = unit_text(known.units), [], []
    for (name, lines, _), spacing in zip(_AXES, grid.spacing, strict=True):
        trained, condition = getattr(known, name).spacing, f"spacing_{name}"
        # A network that is given the spacing as a condition has been trained to tell.
        if condition not in conditions and not np.isclose(spacing, trained, rtol=_TOLERANCE, atol=0):
            differences.append(f"{lines} {spacing:g}{unit} apart, in training {trained:g}{unit}")
            wanted.append(condition)
    if not differences:
        return []
    return [
        f"the grid has {', and '.join(differences)}, which the network is not told: regrid the store, or train with"
        f" conditions: [{', '.join(wanted)}]"
    ]


def _factor(old: str, new: str) -> float | None:
    """What a number in the old units is multiplied by, None where they measure different things."""
    if old == new:
        return 1.0
    try:
        factor, _ = conversion(old, new)
    except ConfigError:
        return None
    # 3600 / 3600.0000000000005 is no conversion.
    return 1.0 if abs(factor - 1) < 1e-12 else factor


def unit_text(units: str) -> str:
    """A unit as it follows a number: nothing where there is none."""
    return "" if units == "1" else f" {units}"
