"""What every equation promises."""

from collections.abc import Iterable
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor

from pelagos.preprocessing.physics.equation import Equation
from pelagos.preprocessing.physics.pde import PDE, State

ADAPTER: TypeAdapter[Any] = TypeAdapter(Equation)
DURATION = {
    "navier_stokes": 0.05,
    "kolmogorov": 0.05,
    "burgers": 0.05,
    "korteweg_de_vries": 0.05,
    "kuramoto_sivashinsky": 0.5,
    "gray_scott": 20.0,
    "allen_cahn": 0.05,
    "wave": 0.03,
    "euler": 0.04,
}
KINDS = list(DURATION)


def build(kind: str, **values: Any) -> PDE:
    pde: PDE = ADAPTER.validate_python({"kind": kind, **values}).build()
    return pde


def state_of(
    kind: str,
    indices: Iterable[int] = (0, 1, 2),
    shape: tuple[int, int] = (16, 16),
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
) -> tuple[PDE, State]:
    pde = build(kind)
    return pde, pde.initial(seed, indices, shape, dtype)


def trajectory(
    pde: PDE, state: State, duration: float, num_frames: int = 4, dt: float | None = None
) -> Tensor:
    frames = [state.fields]
    for _ in range(num_frames - 1):
        frames.append(pde.propagate(frames[-1], state.static, state.scalars, duration, dt))
    return torch.stack(frames, dim=1)


@pytest.mark.parametrize("kind", KINDS)
def test_shapes_and_names_agree(kind: str) -> None:
    pde, state = state_of(kind, shape=(12, 18))
    assert pde.kind == kind
    assert state.fields.shape == (3, len(pde.variables), 12, 18)
    assert state.static.shape == (3, len(pde.static_variables), 12, 18)
    assert state.scalars.shape == (3, len(pde.scalars))
    assert state.scalars.dtype == torch.float64
    assert {variable.role for variable in pde.variables} == {"prognostic"}
    assert {variable.role for variable in pde.static_variables} <= {"static"}
    assert pde.grid((12, 18)).shape == (12, 18)
    assert pde.grid((12, 18)).periodic == (True, True)


@pytest.mark.parametrize("kind", KINDS)
def test_initial_states_depend_on_seed_and_index_alone(kind: str) -> None:
    pde, together = state_of(kind, indices=(5, 2, 9))
    alone = pde.initial(0, [2], (16, 16))
    other = pde.initial(1, [2], (16, 16))
    for name in ("fields", "static", "scalars"):
        assert torch.equal(getattr(together, name)[1:2], getattr(alone, name))
    assert not torch.equal(alone.fields, other.fields)
    assert not torch.equal(together.fields[0], together.fields[1])


@pytest.mark.parametrize("kind", KINDS)
def test_trajectories_do_not_depend_on_their_batch(kind: str) -> None:
    pde, state = state_of(kind, indices=range(5), dtype=torch.float32)
    together = pde.propagate(state.fields, state.static, state.scalars, DURATION[kind])
    pair = pde.propagate(state.fields[2:4], state.static[2:4], state.scalars[2:4], DURATION[kind])
    assert torch.equal(together[2:4], pair)


@pytest.mark.parametrize("kind", KINDS)
def test_two_intervals_are_one_of_twice_the_length(kind: str) -> None:
    pde, state = state_of(kind)
    duration = DURATION[kind]
    dt = duration / 16
    twice = trajectory(pde, state, duration, num_frames=3, dt=dt)[:, -1]
    once = pde.propagate(state.fields, state.static, state.scalars, 2 * duration, dt)
    torch.testing.assert_close(once, twice, rtol=0, atol=1e-11)
    assert (once - state.fields).abs().max() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shift", [(3, 5), (0, 1)])
def test_shifting_and_advancing_commute(kind: str, shift: tuple[int, int]) -> None:
    pde, state = state_of(kind, shape=(14, 15))
    moved = pde.propagate(
        state.fields.roll(shift, dims=(-2, -1)),
        state.static.roll(shift, dims=(-2, -1)),
        state.scalars,
        DURATION[kind],
    )
    expected = pde.propagate(state.fields, state.static, state.scalars, DURATION[kind])
    torch.testing.assert_close(moved, expected.roll(shift, dims=(-2, -1)), rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_single_precision_stays_close_to_double(kind: str) -> None:
    pde, state = state_of(kind, shape=(32, 32))
    double = pde.propagate(state.fields, state.static, state.scalars, DURATION[kind])
    single = pde.propagate(state.fields.float(), state.static.float(), state.scalars, DURATION[kind])
    assert single.dtype == torch.float32
    assert (single - double).norm() < 1e-5 * double.norm()


@pytest.mark.parametrize("kind", KINDS)
def test_static_fields_and_scalars_of_one_stand_for_all(kind: str) -> None:
    pde, state = state_of(kind)
    static, scalars = state.static[:1], state.scalars[:1]
    one = pde.propagate(state.fields, static, scalars, DURATION[kind])
    many = pde.propagate(state.fields, static.expand(3, -1, -1, -1), scalars.expand(3, -1), DURATION[kind])
    torch.testing.assert_close(one, many, rtol=0, atol=1e-15)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("indices", [(0,), (0, 1, 2)])
def test_the_residual_vanishes_for_the_propagators_own_frames_only(
    kind: str, indices: tuple[int, ...]
) -> None:
    pde, state = state_of(kind, indices)
    duration = DURATION[kind]
    frames = trajectory(pde, state, duration)
    arguments = (state.static, state.scalars, duration)
    own = pde.residual(frames, *arguments)
    assert own.shape == (len(indices), 3, *frames.shape[2:])
    change = (frames[:, 1:] - frames[:, :-1]).norm() / duration
    assert own.norm() < 1e-12 * change
    # The same plausible frames, in another order, and frames that stand still.
    shuffled = pde.residual(frames[:, [0, 2, 1, 3]], *arguments)
    frozen = pde.residual(frames[:, :1].expand_as(frames), *arguments)
    assert shuffled.norm() > 0.3 * change
    assert frozen.norm() > 0.3 * change


@pytest.mark.parametrize("kind", KINDS)
def test_the_residual_of_one_wrong_frame_is_its_error_over_the_interval(kind: str) -> None:
    pde, state = state_of(kind)
    duration = DURATION[kind]
    frames = trajectory(pde, state, duration, num_frames=3)
    wrong = frames.clone()
    wrong[:, 2] += 1e-3
    residual = pde.residual(wrong, state.static, state.scalars, duration)
    torch.testing.assert_close(residual[:, 1], torch.full_like(residual[:, 1], 1e-3 / duration))


@pytest.mark.parametrize("kind", KINDS)
def test_the_propagator_is_differentiable_in_fields_static_and_scalars(kind: str) -> None:
    pde, state = state_of(kind, indices=[3], shape=(6, 5))
    # Noise keeps away from exactly constant gas, where the limiter has a kink.
    noise = torch.randn(state.fields.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    inputs = [state.fields + 0.01 * noise, state.static, state.scalars]
    duration = DURATION[kind] / 20
    varying = [tensor.clone().requires_grad_() for tensor in inputs if tensor.numel()]

    def propagate(*values: Tensor) -> Tensor:
        given = iter(values)
        fields, static, scalars = (next(given) if tensor.numel() else tensor for tensor in inputs)
        return pde.propagate(fields, static, scalars, duration, duration / 2)

    assert torch.autograd.gradcheck(propagate, varying, atol=1e-6, rtol=1e-4, fast_mode=True)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_descend_the_residual(kind: str) -> None:
    pde, state = state_of(kind)
    duration = DURATION[kind]
    frames = trajectory(pde, state, duration, num_frames=3)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(frames[:, 1:].shape, dtype=torch.float64, generator=generator)
    correction = (1e-3 * noise).requires_grad_()

    def loss() -> Tensor:
        guess = torch.cat([frames[:, :1], frames[:, 1:] + correction], dim=1)
        return pde.residual(guess, state.static, state.scalars, duration).square().mean()

    before = loss().item()
    optimizer = torch.optim.LBFGS([correction], max_iter=25, line_search_fn="strong_wolfe")

    def closure() -> float:
        optimizer.zero_grad()
        value = loss() / before
        value.backward()
        return value.item()

    optimizer.step(closure)
    assert loss().item() < 0.01 * before


@pytest.mark.parametrize("kind", KINDS)
def test_modes_of_a_small_change_of_a_uniform_state_follow_the_tangent(kind: str) -> None:
    pde, state = state_of(kind, shape=(24, 20))
    duration = DURATION[kind] / 4
    uniform = state.fields.mean((-2, -1), keepdim=True)
    # A force would make a flow of its own; a medium is of one speed here.
    medium = state.static.mean((-2, -1), keepdim=True).expand_as(state.static)
    start = uniform + 1e-7 * (state.fields - uniform)

    def advance(fields: Tensor) -> Tensor:
        return pde.propagate(fields, medium, state.scalars, duration, duration / 8)

    end = advance(uniform.expand_as(start))
    found, frames = advance(start) - end, torch.stack([start, end], 1)
    modes = pde.mode_propagator(frames, medium, state.scalars, duration)
    expected = apply_to_modes(modes, start - uniform)
    # Gray-Scott's uniform state moves meanwhile; Euler's scheme damps sound. Both relative to what happens.
    tolerance = {"gray_scott": 0.1, "euler": 0.3}.get(kind, 1e-4)
    assert (found - expected).norm() < tolerance * (found - (start - uniform)).norm()


def apply_to_modes(modes: Tensor, fields: Tensor) -> Tensor:
    spectrum = torch.fft.rfft2(fields)
    mixed = (
        torch.einsum("ncdhk,ndhk->nchk", modes, spectrum) if modes.shape[1] > 1 else modes[:, 0] * spectrum
    )
    back: Tensor = torch.fft.irfft2(mixed, s=fields.shape[-2:])
    return back


@pytest.mark.parametrize("kind", KINDS)
def test_declared_means_are_conserved(kind: str) -> None:
    pde, state = state_of(kind)
    end = pde.propagate(state.fields, state.static, state.scalars, DURATION[kind])
    for key in pde.conserved_means:
        channel = [variable.key for variable in pde.variables].index(key)
        before, after = (fields[:, channel].mean((-2, -1)) for fields in (state.fields, end))
        torch.testing.assert_close(after, before, rtol=0, atol=1e-13)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "euler"])
def test_coarsened_initial_states_are_those_of_the_coarse_grid(kind: str) -> None:
    pde = build(kind)
    fine, coarse = (pde.initial(0, range(4), shape) for shape in ((128, 128), (64, 64)))
    assert torch.equal(fine.scalars, coarse.scalars)
    fields = pde.coarsen(fine.fields, (64, 64))
    assert (fields - coarse.fields).norm() < 0.02 * coarse.fields.norm()
    torch.testing.assert_close(fine.static[..., ::2, ::2], coarse.static, rtol=0, atol=1e-12)
