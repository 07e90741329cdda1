"""Equation inputs: the static fields and scalars of trajectories, as an equation's propagator takes them.

Shapes: N trajectories, C static fields, S scalars, H rows, W columns.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pelagos.evaluation.truth import scalar_values, static_fields
from pelagos.pipeline.runs.remarks import say
from pelagos.preprocessing.array_types import Floats
from pelagos.preprocessing.config import Config
from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.physics.pde import PDE
from pelagos.preprocessing.store.store import Store
from pelagos.preprocessing.variables import keys


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
    def of(cls, config: Config, equation: PDE, store: Store, trajectories: Sequence[int]) -> "EquationInputs":
        """Those of a store's trajectories; a scalar that it lacks is the configuration's, where it sets a number.

        Args:
            config: the equation's configuration.
            equation: what it builds.
            store: holds the static fields and, as a rule, the scalars.
            trajectories: numbers of the trajectories.

        Raises:
            DataError: a static field or a scalar is not known.
        """
        absent = [key for key in keys(equation.static_variables) if key not in keys(store.static_variables)]
        if absent:
            raise DataError(
                f"{store.path} lacks the static fields {', '.join(absent)} of the {equation.kind} equation"
            )
        static = [static_fields(store, number, equation.static_variables) for number in trajectories]
        scalars = [_scalars(config, equation, store, number) for number in trajectories]
        return cls(np.stack(static).astype(np.float64), np.stack(scalars))


def _scalars(config: Config, equation: PDE, store: Store, trajectory: int) -> Floats:
    values = scalar_values(store, trajectory, equation.scalars)
    for position, name in enumerate(equation.scalars):
        if np.isfinite(values[position]):
            continue
        # Defaults are ranges to draw from, and say nothing about somebody's data.
        given = getattr(config, name, None) if name in config.model_fields_set else None
        if not isinstance(given, float | int):
            raise DataError(
                f"{store.path}: trajectory {trajectory} has no value of {name}: say equation.{name}=NUMBER"
            )
        say(f"note: {name} is taken to be {given:g}, as the equation says: {store.path} holds no value")
        values[position] = given
    return values
