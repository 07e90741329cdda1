from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter

from pelagos.preprocessing.physics.initial_gas import GaussianBlobs, InitialGas, KelvinHelmholtz, Riemann
from pelagos.preprocessing.physics.parameter import Range

ADAPTER: TypeAdapter[Any] = TypeAdapter(InitialGas)
KINDS = (Riemann, KelvinHelmholtz, GaussianBlobs)


def axis(n: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    return (np.arange(n) + 0.5) / n


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(4))
def test_states_have_four_components_and_positive_density_and_pressure(
    kind: type[InitialGas], seed: int
) -> None:
    state = kind().state(np.random.default_rng(seed), axis(24), axis(20))
    assert state.shape == (4, 24, 20)
    assert np.isfinite(state).all()
    assert state[[0, 3]].min() > 0.2
    assert ADAPTER.validate_json(kind().model_dump_json()) == kind()


def test_a_riemann_problem_has_four_constant_states_in_the_ranges_asked_for() -> None:
    gas = Riemann(density=Range(low=1, high=2), speed=0.1, pressure=3.0)
    state = gas.state(np.random.default_rng(0), axis(32), axis(32))
    values = np.unique(state.reshape(4, -1).T, axis=0)
    assert len(values) == 4
    assert 1 <= values[:, 0].min() < values[:, 0].max() <= 2
    assert np.abs(values[:, 1:3]).max() <= 0.1
    assert (values[:, 3] == 3).all()
    # Each state fills a quarter of the square.
    _, counts = np.unique(state[0], return_counts=True)
    assert counts.tolist() == [256] * 4


def test_a_layer_moves_against_its_surroundings_under_equal_pressure() -> None:
    gas = KelvinHelmholtz(density_ratio=2.0, speed=0.5, disturbance=0.01)
    density, u, v, pressure = gas.state(np.random.default_rng(0), axis(64), axis(64))
    assert (density.min(), density.max()) == pytest.approx((1, 2), rel=0.01)
    assert np.corrcoef(density.ravel(), u.ravel())[0, 1] == pytest.approx(1, abs=1e-9)
    assert (u.min(), u.max()) == pytest.approx((-0.5, 0.5), rel=0.01)
    assert np.sqrt(np.mean(v**2)) == pytest.approx(0.01)
    assert np.ptp(v, axis=0).max() == 0, "waves along the layer have no divergence"
    assert np.ptp(pressure) == 0


def test_blobs_stay_in_the_ranges_asked_for() -> None:
    gas = GaussianBlobs(density=Range(low=1, high=2), speed=0.3, pressure=Range(low=4, high=5))
    density, u, v, pressure = gas.state(np.random.default_rng(0), axis(48), axis(48))
    assert 1 <= density.min() < density.max() <= 2
    assert np.abs([u, v]).max() <= 0.3
    assert 4 <= pressure.min() < pressure.max() <= 5
