import numpy as np
import pytest
import torch

from pelagos.evaluation.forecast_plan import ForecastPlan
from pelagos.evaluation.point_sums import SUMS
from pelagos.evaluation.verification import make_evaluator
from pelagos.pipeline.forecasting.coarse_solver import SolverConfig, SolverFrames, solve_coarsely
from pelagos.preprocessing.errors import ConfigError, DataError
from pelagos.preprocessing.store.store import Store, open_store
from tests.pipeline.holed_store import with_hole
from tests.preprocessing.simulated_store import simulated_store

WAVE = {"kind": "wave"}
GAS = {"kind": "euler"}


def solver(equation: dict[str, str], **options: float) -> SolverConfig:
    return SolverConfig.model_validate({"equation": equation, **options})


def frames(config: SolverConfig, size: int, interval: float, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """The solver's frames, and those of the equation on the whole grid, from two random states."""
    equation = config.equation.build()
    start = equation.initial(0, range(2), (size, size))
    static = start.static.expand(2, -1, -1, -1)
    scalars = start.scalars.expand(2, -1)
    found = solve_coarsely(config, start.fields.numpy(), static.numpy(), scalars.numpy(), interval, steps)
    exact, state = [], start.fields
    for _ in range(steps):
        state = equation.propagate(state, static, scalars, interval)
        exact.append(state)
    return np.stack(list(found)), torch.stack(exact).numpy()


def test_on_the_whole_grid_it_is_the_equations_own_propagator() -> None:
    found, exact = frames(solver(WAVE, coarsen=1), 16, 0.05, 2)
    np.testing.assert_array_equal(found, exact)


@pytest.mark.parametrize("equation", [WAVE, GAS], ids=["wave", "gas"])
def test_a_coarser_grid_is_close_and_gets_further_away_the_coarser_it_is(equation: dict[str, str]) -> None:
    errors = []
    for coarsen in (2, 4):
        found, exact = frames(solver(equation, coarsen=coarsen), 32, 0.02, 2)
        assert found.shape == exact.shape
        errors.append(np.linalg.norm(found - exact) / np.linalg.norm(exact))
    assert 0 < errors[0] < errors[1]
    assert errors[0] < 0.1


def test_cells_keep_their_mean_on_the_way_to_the_coarse_grid_and_back() -> None:
    found, exact = frames(solver(GAS, coarsen=2), 16, 0.01, 1)
    np.testing.assert_allclose(found[0, :, 0].mean((-2, -1)), exact[0, :, 0].mean((-2, -1)), rtol=1e-12)


def test_longer_steps_on_the_same_grid_are_another_way_to_save() -> None:
    assert "16 x 16 points with steps of 0.1 at most" in solver(WAVE, coarsen=1, dt=0.1).describe((16, 16))
    assert (
        solver(WAVE)
        .describe((16, 16))
        .endswith("8 x 8 points with steps of the solver's choice, interpolated to 16 x 16")
    )


def test_a_grid_that_cannot_be_divided_is_refused() -> None:
    with pytest.raises(ConfigError, match="15 x 16 points are no multiple of 2"):
        solver(WAVE).coarse_shape((15, 16))


PLAN = ForecastPlan((2,), (0, 1), 1, 2, "test")


@pytest.fixture(scope="module")
def waves(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("waves")
    simulation = {"num_trajectories": 3, "shape": (16, 16), "num_frames": 4, "interval": 0.02}
    return open_store(simulated_store(folder, simulation, {"test": 1}, equation=WAVE))


def test_on_the_datas_own_grid_the_solver_finds_the_truth_again(waves: Store) -> None:
    position, errors = SUMS.index("squared_error"), {}
    for coarsen in (1, 2):
        source = SolverFrames.of(solver(WAVE, coarsen=coarsen), waves, PLAN)
        evaluator = make_evaluator(waves, PLAN, waves.variables, {"solver": source})
        squares = evaluator.score_all(2)["solver"].arrays["points"][..., position]
        errors[coarsen] = float(squares.max())
    # What is left on the same grid is the rounding of frames to float32.
    assert errors[1] < 1e-8 < errors[2]


def test_a_store_of_another_equation_is_refused(waves: Store) -> None:
    with pytest.raises(DataError, match="navier_stokes"):
        SolverFrames.of(solver({"kind": "navier_stokes"}), waves, PLAN)


def test_starts_with_missing_values_are_refused_before_any_forecast(waves: Store) -> None:
    SolverFrames.of(solver(WAVE), with_hole(waves, 2, 2), PLAN)
    with pytest.raises(DataError, match="1 of 2 starts in split test have missing values"):
        SolverFrames.of(solver(WAVE), with_hole(waves, 2, 1), PLAN)
