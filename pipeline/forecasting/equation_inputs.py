"""Equation inputs: the static fields and scalars of trajectories, as an equation's propagator takes them.

Shapes: N trajectories, C static fields, S scalars, H rows, W columns.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pelagos.evaluation.forecast_plan import ForecastPlan
from pelagos.evaluation.truth import channel_positions, scalar_values, static_fields
from pelagos.preprocessing.array_types import Float32s, Floats
from pelagos.preprocessing.config import Config
from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.physics.parameter import bounds, contradicts, span, stated_value
from pelagos.preprocessing.physics.pde import PDE
from pelagos.preprocessing.store.store import Store
from pelagos.preprocessing.variables import Variable, keys


@dataclass(frozen=True, eq=False)
class EquationInputs:
    """What the propagator needs beside the fields.

    Attributes:
        static: (N, C, H, W), float64.
        scalars: (N, S), float64.
    """

    static: Floats
    scalars: Floats

    @classmethod
    def of(
        cls, config: Config, equation: PDE, store: Store, trajectories: Sequence[int], key: str = "equation"
    ) -> "EquationInputs":
        """Those of a store's trajectories; a scalar that it lacks is the configuration's, where it sets a number.

        Args:
            config: the equation's configuration.
            equation: what it builds.
            store: holds the static fields and, as a rule, the scalars.
            trajectories: numbers of the trajectories.
            key: of the equation in the command's configuration, for messages.

        Raises:
            DataError: a static field or a scalar is not known.
        """
        _check_static(equation, store)
        static = [static_fields(store, number, equation.static_variables) for number in trajectories]
        scalars = _scalars(config, equation, store, trajectories, key)
        return cls(np.stack(static).astype(np.float64), scalars)


def check_inputs(
    config: Config, equation: PDE, store: Store, plan: ForecastPlan, key: str = "equation"
) -> list[str]:
    """Refuse, before any work, a plan of which not every forecast can be propagated.

    Args:
        config: the equation's configuration.
        equation: what it builds.
        store: holds the frames that forecasts start from.
        plan: all forecasts.
        key: of the equation in the command's configuration, for messages.

    Returns:
        Notes on where the configuration's numbers stand in for the store's scalars, or are left aside for these.

    Raises:
        DataError: a field or a scalar is not known, or has missing values at a start.
    """
    own = keys(store.variables)
    if absent := [one for one in keys(equation.variables) if one not in own]:
        raise DataError(
            f"{key}: {store.path} lacks {', '.join(absent)}, which the {equation.kind} equation needs"
        )
    _check_static(equation, store)
    _scalars(config, equation, store, plan.trajectories, key)
    _check_starts(equation, store, plan)
    notes = [_scalar_notes(config, name, store, plan.trajectories, key) for name in equation.scalars]
    return [note for of_scalar in notes for note in of_scalar]


def _check_static(equation: PDE, store: Store) -> None:
    absent = [key for key in keys(equation.static_variables) if key not in keys(store.static_variables)]
    if absent:
        raise DataError(
            f"{store.path} lacks the static fields {', '.join(absent)} of the {equation.kind} equation"
        )


def _check_starts(equation: PDE, store: Store, plan: ForecastPlan) -> None:
    """Refuse starts with holes: a propagator spreads a single one over the whole domain."""
    if not store.num_missing:
        return
    channels, bad = channel_positions(store, equation.variables), list[str]()
    for trajectory in plan.trajectories:
        static = static_fields(store, trajectory, equation.static_variables)
        held = _holes(equation.static_variables, static)
        for start in plan.starts:
            state = store.read(trajectory, start, start + 1)[0, channels]
            if found := [*_holes(equation.variables, state), *held]:
                bad.append(f"{', '.join(found)} of trajectory {trajectory} at frame {start}")
    if bad:
        number, split = (
            len(plan.trajectories) * len(plan.starts),
            f" in split {plan.split}" if plan.split else "",
        )
        raise DataError(
            f"{store.path}: {len(bad)} of {number} starts{split} have missing values, from which nothing can be"
            f" propagated: {bad[0]}{', and others' if len(bad) > 1 else ''}; choose others by starts.trajectories or"
            " starts.first"
        )


def _holes(variables: Sequence[Variable], fields_CHW: Float32s) -> list[str]:
    return [key for key, field in zip(keys(variables), fields_CHW, strict=True) if np.isnan(field).any()]


def _scalars(config: Config, equation: PDE, store: Store, trajectories: Sequence[int], key: str) -> Floats:
    """(N, S), the configuration's number where the store has none."""
    values_NS = np.stack([scalar_values(store, number, equation.scalars) for number in trajectories])
    for column, name in enumerate(equation.scalars):
        lacking_N = ~np.isfinite(values_NS[:, column])
        if not lacking_N.any():
            continue
        given = stated_value(config, name)
        if not isinstance(given, float | int):
            raise DataError(
                f"{store.path}: trajectory {trajectories[int(np.argmax(lacking_N))]} has no value of {name}: say"
                f" {key}.{name}=NUMBER"
            )
        values_NS[lacking_N, column] = given
    return values_NS


def _scalar_notes(
    config: Config, name: str, store: Store, trajectories: Sequence[int], key: str
) -> Iterator[str]:
    """What becomes of the number, or the range, that the configuration sets for a scalar."""
    given = stated_value(config, name)
    if given is None:
        return
    low, high = bounds(given)
    values_N = np.array([scalar_values(store, number, [name])[0] for number in trajectories])
    known = values_N[np.isfinite(values_N)]
    if len(known) < len(values_N):
        some = f" for {len(values_N) - len(known)} of {len(values_N)} trajectories" if len(known) else ""
        yield f"{name} is taken to be {span(low, high)}, as {key}.{name} says: {store.path} holds no value{some}"
    if contradicts(given, known):
        yield (
            f"{key}.{name}, {span(low, high)}, is left aside: the values of {store.path} are used,"
            f" {span(known.min(), known.max())}"
        )
