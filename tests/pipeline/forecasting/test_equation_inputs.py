"""Equation inputs: the store's own scalars come first, and nothing starts from missing values."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydantic import TypeAdapter

from pelagos.evaluation.forecast_plan import ForecastPlan
from pelagos.pipeline.forecasting.equation_inputs import EquationInputs, check_inputs
from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.physics.equation import Equation
from pelagos.preprocessing.physics.navier_stokes import NavierStokesConfig
from pelagos.preprocessing.physics.wave_equation import WaveConfig
from pelagos.preprocessing.store.store import Store, open_store
from tests.pipeline.holed_store import with_hole, with_static_hole

PLAN = ForecastPlan((1, 2), (0, 3), 1, 2, "test")


def flows(waves: Path, *viscosities: float) -> Store:
    """The waves as if they were flows of some viscosities, without drag."""
    store = open_store(waves)
    values = np.full((store.num_trajectories, 2), 0.0)
    values[1 : 1 + len(viscosities), 0] = viscosities
    return replace(
        store,
        variables=NavierStokesConfig().build().variables,
        static_variables=(),
        params=("viscosity", "drag"),
        scalar_values=values,
    )


def flow(**values: object) -> NavierStokesConfig:
    equation = TypeAdapter(Equation).validate_python({"kind": "navier_stokes", **values})
    assert isinstance(equation, NavierStokesConfig)
    return equation


def checked(config: NavierStokesConfig, store: Store) -> tuple[list[str], list[float]]:
    equation = config.build()
    notes = check_inputs(config, equation, store, PLAN)
    scalars = EquationInputs.of(config, equation, store, PLAN.trajectories).scalars
    return notes, scalars[:, equation.scalars.index("viscosity")].tolist()


@pytest.mark.parametrize("given", [0.5, {"low": 0.01, "high": 0.5}])
def test_a_number_that_contradicts_the_stores_own_is_left_aside_and_that_is_said(
    waves: Path, given: object
) -> None:
    notes, values = checked(flow(viscosity=given), flows(waves, 1e-3, 4e-3))
    assert values == [1e-3, 4e-3]
    (note,) = notes
    assert note.startswith("equation.viscosity, 0.")
    assert note.endswith(" are used, 0.001 to 0.004")


@pytest.mark.parametrize("given", [{}, {"viscosity": 1e-3}, {"viscosity": {"low": 1e-4, "high": 1e-2}}])
def test_nothing_is_said_of_numbers_that_agree(waves: Path, given: dict[str, object]) -> None:
    stored = float(np.float32(1e-3))
    assert checked(flow(**given), flows(waves, stored, stored)) == ([], [stored, stored])


def test_a_number_stands_in_only_where_the_store_has_none(waves: Path) -> None:
    notes, values = checked(flow(viscosity=0.5), flows(waves, 1e-3, np.nan))
    assert values == [1e-3, 0.5]
    assert "holds no value for 1 of 2 trajectories" in notes[0]
    assert "is left aside" in notes[1]
    with pytest.raises(DataError, match=r"trajectory 2 has no value of viscosity: say equation.viscosity="):
        checked(flow(), flows(waves, 1e-3, np.nan))


def test_only_starts_have_to_be_whole(waves: Path) -> None:
    config, store = WaveConfig(), open_store(waves)
    equation = config.build()
    for trajectory, frame in (
        (1, 2),
        (0, 3),
    ):  # a later frame of a forecast, and a trajectory that is not asked for
        assert check_inputs(config, equation, with_hole(store, trajectory, frame), PLAN) == []
    with pytest.raises(
        DataError, match=r"1 of 4 starts in split test .*: displacement of trajectory 2 at frame 3;"
    ):
        check_inputs(config, equation, with_hole(store, 2, 3), PLAN)
    with pytest.raises(
        DataError, match=r"2 of 4 starts .*: wave_speed of trajectory 1 at frame 0, and others"
    ):
        check_inputs(config, equation, with_static_hole(store, 1), PLAN)
