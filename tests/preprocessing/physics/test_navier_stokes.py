import math
from typing import Any

import pytest
import torch
from torch import Tensor

from pelagos.preprocessing.physics.initial_flow import Gaussians, InitialFlow, RandomFlow, ShearLayer, Sines
from pelagos.preprocessing.physics.kolmogorov import KolmogorovConfig
from pelagos.preprocessing.physics.navier_stokes import NavierStokes, NavierStokesConfig

NO_STATIC = torch.empty(1, 0, 1, 1)


def equation(**config: Any) -> NavierStokes:
    return NavierStokesConfig(**config).build()


def scalars(viscosity: float, drag: float = 0.0, *more: float) -> Tensor:
    return torch.tensor([[viscosity, drag, *more]], dtype=torch.float64)


def points(shape: tuple[int, int], length: float = 1.0) -> tuple[Tensor, Tensor]:
    h, w = shape
    y = torch.arange(h, dtype=torch.float64)[:, None] * length / h
    x = torch.arange(w, dtype=torch.float64)[None, :] * length / w
    return y, x


def smooth_flow(shape: tuple[int, int] = (24, 24), **config: Any) -> tuple[NavierStokes, Tensor]:
    pde = equation(initial=(Sines(modes=3),), **config)
    return pde, pde.initial(7, [0], shape).fields


def taylor_green(
    shape: tuple[int, int],
    time: float,
    viscosity: float,
    drag: float = 0.0,
    mean: tuple[float, float] = (0.0, 0.0),
    waves: int = 2,
) -> Tensor:
    """Vortices that decay in place, carried along by the mean flow: an exact solution."""
    y, x = points(shape)
    k, decay = 2 * math.pi * waves, math.exp(-drag * time)
    # The mean flow's path, with drag.
    path = time if drag == 0 else (1 - decay) / drag
    y, x = k * (y - mean[1] * path), k * (x - mean[0] * path)
    amplitude = decay * math.exp(-2 * viscosity * k * k * time)
    u = mean[0] * decay + amplitude * torch.sin(x) * torch.cos(y)
    v = mean[1] * decay - amplitude * torch.cos(x) * torch.sin(y)
    return torch.stack([u, v])[None]


@pytest.mark.parametrize("shape", [(16, 16), (17, 24)])
@pytest.mark.parametrize("drag", [0.0, 0.7])
@pytest.mark.parametrize("mean", [(0.0, 0.0), (0.8, -0.3)])
def test_taylor_green_vortices_decay_and_drift_exactly(
    shape: tuple[int, int], drag: float, mean: tuple[float, float]
) -> None:
    start = taylor_green(shape, 0.0, 0.01, drag, mean)
    result = equation().propagate(start, NO_STATIC, scalars(0.01, drag), 0.5, dt=0.01)
    # At rest nothing but the linear part acts, which is exact; drifting has the error of the steps.
    tolerance = 1e-13 if mean == (0.0, 0.0) else 1e-5
    expected = taylor_green(shape, 0.5, 0.01, drag, mean)
    torch.testing.assert_close(result, expected, rtol=0, atol=tolerance)


def test_a_parallel_flow_diffuses_exactly_in_one_step() -> None:
    y, _ = points((16, 16), length=3.0)
    wave = torch.sin(2 * math.pi * 2 * y / 3).expand(16, 16)
    start = torch.stack([wave, torch.zeros_like(wave)])[None]
    result = equation(length=3.0).propagate(start, NO_STATIC, scalars(0.02, 0.1), 1.0, dt=10)
    rate = 0.02 * (2 * math.pi * 2 / 3) ** 2 + 0.1
    torch.testing.assert_close(result, start * math.exp(-rate), rtol=0, atol=1e-14)


def test_errors_fall_with_the_fourth_power_of_the_step() -> None:
    pde, start = smooth_flow()

    def at(dt: float) -> Tensor:
        return pde.propagate(start, NO_STATIC, scalars(1e-3), 0.4, dt)

    errors = [(at(dt) - at(0.00125)).abs().max().item() for dt in (0.02, 0.01)]
    assert math.log2(errors[0] / errors[1]) > 3.7


# Of a default flow that is faster than `max_speed`: equal steps for that speed end in NaN from 128 points a side on.
FAST = 79


@pytest.mark.parametrize(("points", "duration"), [(64, 0.12), (128, 0.12), (256, 0.04)])
def test_a_flow_faster_than_the_step_is_chosen_for_is_solved_on_every_grid(
    points: int, duration: float
) -> None:
    pde = equation()
    start = pde.initial(0, [FAST, 78], (points, points), torch.float32)
    assert start.fields[0].square().sum(0).amax().sqrt() > pde.config.max_speed
    end = pde.propagate(start.fields, start.static, start.scalars, duration)
    quarter = pde.time_step((points, points)) / 4
    wanted = pde.propagate(start.fields.double(), start.static, start.scalars, duration, quarter)
    error = (end - wanted).flatten(1).norm(dim=1) / wanted.flatten(1).norm(dim=1)
    assert error.max() < 1e-4


def test_a_flow_does_not_depend_on_a_faster_one_beside_it() -> None:
    pde = equation()
    start = pde.initial(0, [78, 77, FAST], (32, 32), torch.float32)
    slow, fast = 0.3 * start.fields[:2], 2 * start.fields[2:]

    def end(*fields: Tensor) -> Tensor:
        return pde.propagate(torch.cat(fields), start.static[:1], start.scalars[:1], 0.2)

    together = end(slow, fast, fast)
    assert torch.equal(together[:2], end(slow))
    assert torch.equal(together[2:], end(fast, fast))
    assert together.isfinite().all()


def test_a_flow_that_would_take_too_many_steps_is_given_up_alone() -> None:
    pde, start = smooth_flow()
    end = pde.propagate(torch.cat([start, 1e3 * start]), NO_STATIC, scalars(1e-3), 0.1)
    assert end[1].isnan().all()
    torch.testing.assert_close(end[:1], pde.propagate(start, NO_STATIC, scalars(1e-3), 0.1))


def test_gradients_flow_through_the_shorter_steps_of_fast_flow() -> None:
    pde, start = smooth_flow((8, 8))
    fields = (torch.cat([start, 6 * start]) + 0.1).requires_grad_()
    parameters = scalars(1e-2).requires_grad_()

    def end(flow: Tensor, values: Tensor) -> Tensor:
        return pde.propagate(flow, NO_STATIC, values, 0.1)

    assert torch.autograd.gradcheck(end, (fields, parameters), atol=1e-6, rtol=1e-4, fast_mode=True)


@pytest.mark.parametrize("shape", [(32, 32), (27, 36)])
def test_velocity_and_vorticity_are_inverse_and_the_mean_flow_is_kept(shape: tuple[int, int]) -> None:
    pde, velocity = smooth_flow(shape, mean_speed=0.7)
    mean = velocity.mean(dim=(-2, -1))
    assert mean.norm() == pytest.approx(0.7)
    vorticity = pde.vorticity(velocity)
    assert vorticity.mean().abs() < 1e-13
    torch.testing.assert_close(pde.velocity(vorticity, mean), velocity)


def test_vorticity_of_solid_rotation_is_positive_counterclockwise() -> None:
    y, x = points((32, 32))
    stream = torch.cos(2 * math.pi * x) + torch.cos(2 * math.pi * y)
    # u = d psi/dy, v = -d psi/dx around the centre of a positive stream function turns clockwise.
    u = -2 * math.pi * torch.sin(2 * math.pi * y).expand(32, 32)
    v = 2 * math.pi * torch.sin(2 * math.pi * x).expand(32, 32)
    vorticity = equation().vorticity(torch.stack([u, v])[None])[0]
    torch.testing.assert_close(vorticity, 4 * math.pi**2 * stream)


def test_a_divergent_part_of_the_velocity_is_projected_away() -> None:
    pde, start = smooth_flow()
    y, x = points((24, 24))
    divergent = torch.stack(
        [torch.sin(2 * math.pi * x).expand(24, 24), torch.cos(4 * math.pi * y).expand(24, 24)]
    )
    arguments = (NO_STATIC, scalars(1e-3), 0.05)
    torch.testing.assert_close(
        pde.propagate(start + divergent, *arguments), pde.propagate(start, *arguments), rtol=0, atol=1e-13
    )


def test_a_moving_observer_sees_the_same_flow() -> None:
    pde, start = smooth_flow()
    wind = torch.tensor([0.5, -1.0], dtype=torch.float64)[:, None, None]
    duration = 0.25  # The wind then carries the flow by 3 columns and -6 rows of 24.
    at_rest = pde.propagate(start, NO_STATIC, scalars(1e-3), duration, dt=0.00125)
    moving = pde.propagate(start + wind, NO_STATIC, scalars(1e-3), duration, dt=0.00125)
    carried = at_rest.roll((-6, 3), dims=(-2, -1)) + wind
    torch.testing.assert_close(moving, carried, rtol=0, atol=1e-6)


def quarter_turn(velocity: Tensor) -> Tensor:
    """The flow turned by 90 degrees from x to y about the first grid point."""
    turned = velocity.transpose(-1, -2).flip(-1).roll(1, dims=-1)
    return torch.stack([-turned[:, 1], turned[:, 0]], dim=1)


def test_turning_the_flow_and_advancing_it_commute() -> None:
    pde, start = smooth_flow()
    arguments = (NO_STATIC, scalars(1e-3), 0.2)
    turned = pde.propagate(quarter_turn(start), *arguments)
    torch.testing.assert_close(turned, quarter_turn(pde.propagate(start, *arguments)), rtol=0, atol=1e-13)


def test_reflecting_the_flow_and_advancing_it_commute() -> None:
    def reflect(velocity: Tensor) -> Tensor:
        sign = torch.tensor([1.0, -1.0], dtype=torch.float64)[:, None, None]
        return velocity.flip(-2).roll(1, dims=-2) * sign

    pde, start = smooth_flow()
    arguments = (NO_STATIC, scalars(1e-3), 0.2)
    reflected = pde.propagate(reflect(start), *arguments)
    torch.testing.assert_close(reflected, reflect(pde.propagate(start, *arguments)), rtol=0, atol=1e-13)


def test_a_larger_box_with_stretched_time_and_viscosity_is_the_same_flow() -> None:
    small, start = smooth_flow()
    large = equation(length=6.0)
    one = small.propagate(start, NO_STATIC, scalars(1e-3), 0.2, dt=0.01)
    other = large.propagate(start, NO_STATIC, scalars(6e-3), 1.2, dt=0.06)
    torch.testing.assert_close(other, one, rtol=0, atol=1e-13)


def test_different_grids_give_the_same_resolved_flow() -> None:
    pde, coarse = smooth_flow((33, 48))
    _, fine = smooth_flow((64, 64))
    arguments = (NO_STATIC, scalars(2e-2), 0.1, 0.005)
    results = [pde.coarsen(pde.propagate(start, *arguments), (15, 18)) for start in (coarse, fine)]
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=2e-4)
    assert (results[0] - pde.coarsen(coarse, (15, 18))).abs().max() > 0.1


def test_a_nearly_inviscid_flow_keeps_energy_and_enstrophy() -> None:
    pde, start = smooth_flow((32, 32))
    end = pde.propagate(start, NO_STATIC, scalars(1e-12), 0.3, dt=0.0025)
    for quantity in (lambda w: w.square().mean(), lambda w: pde.vorticity(w).square().mean()):
        assert quantity(end).item() == pytest.approx(quantity(start).item(), rel=1e-6)


def test_energy_falls_by_the_dissipation() -> None:
    pde, start = smooth_flow()
    viscosity, short = 2e-3, 1e-4
    end = pde.propagate(start, NO_STATIC, scalars(viscosity, 0.3), short)
    loss = (start.square().sum(1).mean() - end.square().sum(1).mean()) / 2 / short
    mid = (start + end) / 2
    expected = viscosity * pde.vorticity(mid).square().mean() + 0.3 * mid.square().sum(1).mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)


def test_a_tracer_that_diffuses_like_vorticity_moves_like_vorticity() -> None:
    pde, start = smooth_flow(tracer=True, mean_speed=0.3)
    start = torch.cat([start[:, :2], pde.vorticity(start[:, :2])[:, None]], dim=1)
    end = pde.propagate(start, NO_STATIC, scalars(2e-3, 0.0, 2e-3), 0.3)
    torch.testing.assert_close(end[:, 2], pde.vorticity(end[:, :2]), rtol=0, atol=1e-11)


def test_a_tracer_does_not_disturb_the_flow() -> None:
    plain, start = smooth_flow()
    traced = equation(tracer=True)
    ink = torch.rand(1, 1, 24, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    end = traced.propagate(torch.cat([start, ink], dim=1), NO_STATIC, scalars(1e-3, 0.0, 1e-3), 0.2)
    alone = plain.propagate(start, NO_STATIC, scalars(1e-3), 0.2)
    torch.testing.assert_close(end[:, :2], alone, rtol=0, atol=1e-13)


def test_momentum_and_tracer_are_conserved_to_rounding() -> None:
    pde = equation(tracer=True, mean_speed=0.4)
    state = pde.initial(0, range(3), (32, 32))
    end = pde.propagate(state.fields, state.static, state.scalars, 0.3)
    before, after = (pde.conserved(f, state.static, state.scalars) for f in (state.fields, end))
    assert set(before) == {"momentum_x", "momentum_y", "tracer"}
    for name, values in before.items():
        torch.testing.assert_close(after[name], values, rtol=0, atol=1e-15)


def test_drag_takes_momentum_away_and_is_not_called_conserving() -> None:
    assert equation(drag=0.1).conserved(torch.zeros(1, 2, 8, 8), NO_STATIC, scalars(1e-3)) == {}


@pytest.mark.parametrize("kind", [Sines, Gaussians, RandomFlow, ShearLayer])
def test_initial_flows_are_solenoidal_resolved_and_of_the_speed_asked_for(kind: type[InitialFlow]) -> None:
    pde = equation(initial=(kind(),), speed=0.5, tracer=True)
    start = pde.initial(1, range(6), (64, 64)).fields
    velocity = start[:, :2]
    rms = velocity.square().sum(1).mean(dim=(-2, -1)).sqrt()
    torch.testing.assert_close(rms, torch.full((6,), 0.5, dtype=torch.float64))
    again = pde.velocity(pde.vorticity(velocity), torch.zeros(6, 2, dtype=torch.float64))
    torch.testing.assert_close(again, velocity, rtol=0, atol=1e-13)
    finer = pde.coarsen(pde.initial(1, range(6), (128, 128)).fields, (64, 64))
    assert (finer - start).abs().max() < 0.02
    assert start[:, 2].min() > -0.05
    assert start[:, 2].max() < 1.05


def test_a_mixture_draws_every_kind_of_flow() -> None:
    shear, sines = ShearLayer(thickness=0.03, disturbance=1e-6), Sines(modes=3)
    pde = equation(initial=(shear, sines))
    velocity = pde.initial(0, range(20), (32, 32)).fields
    # A shear layer that is hardly disturbed has one vanishing component.
    parallel = velocity.abs().amax(dim=(-2, -1)).amin(dim=1) < 1e-3
    assert 3 < int(parallel.sum()) < 17


@pytest.mark.parametrize(
    "config", [NavierStokesConfig(state="vorticity", tracer=True), KolmogorovConfig(state="vorticity")]
)
def test_a_vorticity_moves_as_that_of_the_velocity_does(
    config: NavierStokesConfig | KolmogorovConfig,
) -> None:
    vorticity, velocity = config.build(), config.model_copy(update={"state": "velocity"}).build()
    start, other = (pde.initial(0, range(2), (24, 24)) for pde in (vorticity, velocity))
    torch.testing.assert_close(start.fields[:, 0], velocity.vorticity(other.fields[:, :2]))
    found = vorticity.propagate(start.fields, start.static, start.scalars, 0.2)
    expected = velocity.propagate(other.fields, other.static, other.scalars, 0.2)
    torch.testing.assert_close(found[:, 0], velocity.vorticity(expected[:, :2]), rtol=0, atol=1e-11)
    torch.testing.assert_close(found[:, 1:], expected[:, 2:], rtol=0, atol=1e-11)
    assert vorticity.variables[0].key == "vorticity"
    assert not vorticity.symmetries.galilean
