"""Forcing supply: forcings of the times that a forecast passes through, also where the store it starts from ends.

They are taken from the store, then from another one, then from the clock; what none of them knows is refused, or held
where that is asked for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from pelagos.evaluation.forecast_plan import ForecastPlan
from pelagos.evaluation.truth import scalar_values
from pelagos.preprocessing.errors import ConfigError, DataError
from pelagos.preprocessing.fields.solar_forcing import FORCINGS, Clock, PlaceName, place_field, time_between
from pelagos.preprocessing.quantities import dates
from pelagos.preprocessing.quantities.units import conversion
from pelagos.preprocessing.store.store import Store
from pelagos.preprocessing.variables import Variable, keys, with_role

Fields = NDArray[np.float32]
_CLOCK: Mapping[str, Clock] = {str(name): clock for name, clock in FORCINGS.items()}


@dataclass(frozen=True, eq=False)
class ForcingSupply:
    """Where a forecast has its forcings, static fields and scalars from.

    Attributes:
        store: what the forecast starts from.
        other: a store that knows more fields, or more times; None where there is none.
        hold: forcings that keep their last value where nothing knows them.
        scalars: values by name, for all forecasts, which go before those of stores.
    """

    store: Store
    other: Store | None = None
    hold: tuple[str, ...] = ()
    scalars: Mapping[str, float] = field(default_factory=dict)

    def check(self, variables: Sequence[Variable], plan: ForecastPlan, last: int) -> None:
        """Check that every forcing is known until the last step of every forecast.

        Args:
            variables: the model's inputs.
            plan: which forecasts.
            last: how many frames after a start the last forcing is asked for.

        Raises:
            DataError: names the forcing, until when it is known, and what to give.
            ConfigError: what is to be held is no forcing of the model.
        """
        forcings = with_role(variables, "forcing")
        if unknown := [name for name in self.hold if name not in keys(forcings)]:
            raise ConfigError(
                f"forcings.hold: {unknown[0]!r} is no forcing of the model, whose forcings are"
                f" {', '.join(keys(forcings)) or 'none'}"
            )
        offsets = np.arange(0, last + 1, plan.stride)
        needed = np.unique(np.array(plan.starts)[:, None] + offsets).tolist() if forcings else []
        for trajectory in plan.trajectories:
            beyond = [frame for frame in needed if not has_frame(self.store, trajectory, frame)]
            for one in forcings:
                for frame in beyond if one.key in keys(self.store.variables) else needed:
                    if self._place(one, trajectory, frame) is None:
                        raise DataError(self._refusal(one, frame))

    def frame(self, variables: Sequence[Variable], trajectory: int, frame: int) -> Fields:
        """(C, H, W) forcings as stored at a frame of the store's axis, which may lie beyond its end."""
        out = np.empty((len(variables), *self.store.grid.shape), np.float32)
        read: dict[tuple[int, int, int], Fields] = {}
        for channel, variable in enumerate(variables):
            place = self._place(variable, trajectory, frame)
            if place is None:
                raise DataError(self._refusal(variable, frame))
            if isinstance(place, str):
                out[channel] = self._clock(variable, frame)
                continue
            store, position = place
            key = (id(store), *position)
            if key not in read:
                read[key] = store.read(position[0], position[1], position[1] + 1)[0]
            out[channel] = read[key][keys(store.variables).index(variable.key)]
        return out

    def outside(self, variables: Sequence[Variable], trajectory: int, frame: int) -> Fields:
        """(C, H, W) fields that drive the sides of a region at a frame: the other store's; this one's without one."""
        if self.other is None:
            store, row, found = self.store, trajectory, frame
            known = has_frame(store, trajectory, frame)
        else:
            other = self._other_frame(frame)
            store, row, found = self.other, self._row(self.other, trajectory), -1 if other is None else other
            known = has_frame(store, row, found)
        if not known:
            raise DataError(
                f"the model's sides are driven from outside, and {store.path} holds nothing for {self._moment(frame)}:"
                " give forcings.store=STORE_OR_FILE that does, such as the forecast of a wider model, or fewer"
                " starts.steps"
            )
        order = keys(store.variables)
        if missing := [key for key in keys(variables) if key not in order]:
            raise DataError(
                f"{store.path} lacks {', '.join(missing)}, which drive the sides of the model's region"
            )
        fields = store.read(row, found, found + 1)[0]
        return np.asarray(fields[[order.index(key) for key in keys(variables)]])

    def static(self, variables: Sequence[Variable], trajectory: int) -> Fields:
        """(C, H, W) static fields of a trajectory as stored.

        Raises:
            DataError: one of them is nowhere.
        """
        out = np.empty((len(variables), *self.store.grid.shape), np.float32)
        read: dict[int, Fields] = {}
        for channel, variable in enumerate(variables):
            store = self._static_store(variable)
            if store is None and self._placed(variable):
                name: Any = variable.name
                out[channel] = place_field(name, self.store.grid)
                continue
            if store is None:
                raise DataError(
                    f"{self.store.path} lacks the static field {variable.key}, which the model has: give"
                    " forcings.store=STORE_OR_FILE that holds it"
                )
            if id(store) not in read:
                read[id(store)] = store.static(self._row(store, trajectory))
            out[channel] = read[id(store)][keys(store.static_variables).index(variable.key)]
        return out

    def scalar_values(self, names: Sequence[str], trajectory: int) -> NDArray[np.float64]:
        """(S,) scalars of a trajectory, NaN where nothing knows one."""
        values = scalar_values(self.store, trajectory, names)
        if self.other is not None:
            known = scalar_values(self.other, self._row(self.other, trajectory), names)
            values = np.where(np.isnan(values), known, values)
        given = np.array([self.scalars.get(name, np.nan) for name in names], np.float64)
        return np.where(np.isnan(given), values, given)

    def knows(self, variable: Variable) -> Variable | None:
        """The variable of this key where something holds it, or the clock computes it."""
        stores = [self.store] if self.other is None else [self.store, self.other]
        for store in stores:
            for found in (*store.variables, *store.static_variables):
                if found.key == variable.key:
                    return found
        return variable if self._clocked(variable) or self._placed(variable) else None

    def _place(
        self, variable: Variable, trajectory: int, frame: int
    ) -> tuple[Store, tuple[int, int]] | Literal["clock"] | None:
        """The store and the position in it of a forcing at a frame, or that the clock gives it; or None."""
        if variable.key in keys(self.store.variables) and has_frame(self.store, trajectory, frame):
            return self.store, (trajectory, frame)
        if self.other is not None and variable.key in keys(self.other.variables):
            row, other = self._row(self.other, trajectory), self._other_frame(frame)
            if other is not None and has_frame(self.other, row, other):
                return self.other, (row, other)
        if self._clocked(variable):
            return "clock"
        if variable.key in self.hold and variable.key in keys(self.store.variables):
            return self.store, (trajectory, last_frame(self.store, trajectory))
        return None

    def _clocked(self, variable: Variable) -> bool:
        return variable.key in _CLOCK and self.store.dates is not None and self.store.grid.kind == "latlon"

    def _placed(self, variable: Variable) -> bool:
        return variable.key in get_args(PlaceName) and self.store.grid.kind == "latlon"

    def _clock(self, variable: Variable, frame: int) -> Fields:
        """(H, W) a forcing at the date of a frame, which may lie beyond the store's end."""
        assert self.store.dates is not None
        first = self.store.dates.at(np.arange(min(2, self.store.num_times)))
        made = _CLOCK[variable.name](self._date(frame)[None], self.store.grid, time_between(first))
        return np.asarray(made[0], np.float32)

    def _date(self, frame: int) -> Any:
        assert self.store.dates is not None
        return self.store.dates.at(np.array([frame]))[0]

    def _other_frame(self, frame: int) -> int | None:
        """The frame of the other store at the date of a frame of the store, or at its time where there are no dates."""
        assert self.other is not None
        if self.store.dates is not None and self.other.dates is not None:
            wanted = dates.seconds(np.array([self._date(frame)]))[0]
            (found,) = np.nonzero(self.other.dates.seconds == wanted)
        else:
            factor, _ = conversion(self.store.time_units, self.other.time_units)
            wanted, step = frame * self.store.dt * factor, self.other.dt
            (found,) = np.nonzero(np.abs(self.other.times - wanted) <= 1e-3 * step)
        return int(found[0]) if len(found) else None

    def _row(self, store: Store, trajectory: int) -> int:
        """The trajectory of another store that goes with one of this: a single one goes with all."""
        if store.num_trajectories == 1:
            return 0
        if trajectory >= store.num_trajectories:
            raise DataError(
                f"{store.path} has {store.num_trajectories} trajectories, and none that goes with trajectory"
                f" {trajectory} of {self.store.path}"
            )
        return trajectory

    def _static_store(self, variable: Variable) -> Store | None:
        for store in (self.store, self.other):
            if store is not None and variable.key in keys(store.static_variables):
                return store
        return None

    def _refusal(self, variable: Variable, frame: int) -> str:
        store = self.store
        there = variable.key in keys(store.variables)
        held = f"holds it up to {self._moment(store.num_times - 1)}" if there else "does not hold it"
        beside = "" if self.other is None else f", and {self.other.path} not at that time either"
        hold = f", or forcings.hold=[{variable.key}] to keep its last value" if there else ""
        return (
            f"the model is forced by {variable.key}, which forecasts need up to {self._moment(frame)}; {store.path}"
            f" {held}{beside}: give forcings.store=STORE_OR_FILE that holds it until then, or fewer starts.steps{hold}"
        )

    def _moment(self, frame: int) -> str:
        return f"frame {frame}" + (f" ({dates.text_of(self._date(frame))})" if self.store.dates else "")


def has_frame(store: Store, trajectory: int, frame: int) -> bool:
    """Whether a trajectory of a store has a frame."""
    if not 0 <= frame < store.num_times:
        return False
    return store.present is None or bool(store.present[trajectory, frame])


def last_frame(store: Store, trajectory: int) -> int:
    """The last frame that a trajectory of a store has."""
    if store.present is None:
        return store.num_times - 1
    return int(np.flatnonzero(store.present[trajectory])[-1])
