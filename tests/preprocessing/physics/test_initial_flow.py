from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from pelagos.preprocessing.physics.initial_flow import Gaussians, InitialFlow, RandomFlow, ShearLayer, Sines

ADAPTER: TypeAdapter[Any] = TypeAdapter(InitialFlow)
KINDS = (Sines, Gaussians, RandomFlow, ShearLayer)


def axis(n: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.arange(n) / n


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_draw_is_the_same_function_on_every_grid(kind: type[InitialFlow]) -> None:
    flow = kind()
    coarse = flow.vorticity(np.random.default_rng(1), axis(32), axis(24))
    fine = flow.vorticity(np.random.default_rng(1), axis(64), axis(72))
    assert coarse.shape == (32, 24)
    # Shear layers are scaled by their root mean square, which the coarse grid knows less exactly.
    np.testing.assert_allclose(fine[::2, ::3], coarse, atol=0.02 * np.abs(fine).max())


@pytest.mark.parametrize("kind", KINDS)
def test_draws_differ_and_kinds_survive_the_configuration(kind: type[InitialFlow]) -> None:
    rng = np.random.default_rng(2)
    one, two = (kind().vorticity(rng, axis(16), axis(16)) for _ in range(2))
    assert not np.allclose(one, two)
    assert ADAPTER.validate_json(kind().model_dump_json()) == kind()


def test_shear_layers_lie_along_x_or_y_and_oppose_each_other() -> None:
    flow = ShearLayer(thickness=0.04, disturbance=1e-9)
    seen = set()
    for seed in range(8):
        vorticity = flow.vorticity(np.random.default_rng(seed), axis(64), axis(64))
        along_x = bool(np.ptp(vorticity, axis=1).max() < 1e-6)
        assert along_x or np.ptp(vorticity, axis=0).max() < 1e-6
        assert vorticity.mean() == pytest.approx(0, abs=1e-12)
        assert vorticity.max() == pytest.approx(-vorticity.min(), rel=0.05)
        seen.add(along_x)
    assert seen == {True, False}


def test_sines_hold_no_wave_beyond_the_largest() -> None:
    vorticity = Sines(modes=3).vorticity(np.random.default_rng(0), axis(16), axis(16))
    power = np.abs(np.fft.rfft2(vorticity))
    assert power[:4, :4].max() > 1
    assert power[4:13].max() < 1e-12
    assert power[:, 4:].max() < 1e-12


def test_an_unknown_kind_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValidationError, match="'sines', 'gaussians', 'random', 'shear_layer'"):
        ADAPTER.validate_python({"kind": "vortex_street"})
