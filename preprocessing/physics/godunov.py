"""A finite-volume scheme for an ideal gas: limited linear reconstruction, HLLC fluxes, SSP-RK2.

Shapes: component first and trajectory last, (4, H, W, N), so that every shifted view consists of long
contiguous runs, which is twice as fast as (N, 4, H, W). q_4HWN holds density, momenta along x and y and total
energy; w_4HWN density, velocities along x and y and pressure. An axis of n cells has n + 1 faces, of which
the first and the last are the same.
"""

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from pelagos.preprocessing.errors import DataError

_MAX_STEPS = 100_000  # needing more is taken for a mistake in the configuration


def conservative(w_4HWN: Tensor, gamma: float) -> Tensor:
    """Density, momenta and energy from density, velocities and pressure."""
    density, u, v, pressure = w_4HWN
    energy = pressure / (gamma - 1) + 0.5 * density * (u * u + v * v)
    return torch.stack([density, density * u, density * v, energy])


def primitive(q_4HWN: Tensor, gamma: float) -> Tensor:
    """Density, velocities and pressure from density, momenta and energy."""
    density, momentum_x, momentum_y, energy = q_4HWN
    u, v = momentum_x / density, momentum_y / density
    pressure = (gamma - 1) * (energy - 0.5 * (momentum_x * u + momentum_y * v))
    return torch.stack([density, u, v, pressure])


def limited_slope(backward: Tensor, forward: Tensor) -> Tensor:
    """Van Albada's mean of two differences: smooth, and zero where they differ in sign."""
    # The small number only keeps 0 / 0 away; it is far below the square of any difference that matters.
    same_sign = torch.clamp(backward * forward, min=0)
    squares = torch.addcmul(backward * backward + 1e-12, forward, forward)
    return same_sign * (backward + forward) / squares


def hllc_flux(left: Tensor, right: Tensor, normal: int, gamma: float) -> Tensor:
    """Fluxes through faces from the primitive states on both sides (Toro, 3rd edition, chapter 10).

    Args:
        left: (4, ...) states below the faces.
        right: (4, ...) states above.
        normal: component of the velocity across the faces, 1 or 2.
        gamma: ratio of the specific heats.
    """
    density_l, u_l, pressure_l = left[0], left[normal], left[3]
    density_r, u_r, pressure_r = right[0], right[normal], right[3]
    sound_l = torch.sqrt(gamma * pressure_l / density_l)
    sound_r = torch.sqrt(gamma * pressure_r / density_r)
    slowest = torch.minimum(u_l - sound_l, u_r - sound_r)
    fastest = torch.maximum(u_l + sound_l, u_r + sound_r)
    mass_l, mass_r = density_l * (slowest - u_l), density_r * (fastest - u_r)
    contact = (pressure_r - pressure_l + u_l * mass_l - u_r * mass_r) / (mass_l - mass_r)
    # With weights 0 and 1, lerp picks a side exactly, and is many times faster than torch.where here.
    from_left = torch.sign(contact).clamp(min=0)
    state = torch.lerp(right, left, from_left)
    speed = torch.lerp(fastest, slowest, from_left)
    reach = torch.lerp(fastest.clamp(min=0), slowest.clamp(max=0), from_left)
    return _side_flux(state, speed, reach, contact, normal, gamma)


def _side_flux(
    state: Tensor, speed: Tensor, reach: Tensor, contact: Tensor, normal: int, gamma: float
) -> Tensor:
    """F + reach (U* - U) on the side of the contact from which the gas comes.

    `speed` is that of the outer wave on this side; `reach` is the same, or zero where that wave moves away from
    the face.
    """
    density, u, tangential, pressure = state[0], state[normal], state[3 - normal], state[3]
    momentum = density * u
    energy = pressure / (gamma - 1) + 0.5 * (momentum * u + density * tangential * tangential)
    ahead = speed - u
    star = density * ahead / (speed - contact)
    work = contact + pressure / (density * ahead)
    star_energy = star * (energy / density + (contact - u) * work)
    mass_flux = torch.addcmul(momentum, reach, star - density)
    normal_flux = torch.addcmul(momentum * u + pressure, reach, star * contact - momentum)
    energy_flux = torch.addcmul(u * (energy + pressure), reach, star_energy - energy)
    along = (normal_flux, mass_flux * tangential)
    return torch.stack([mass_flux, *(along if normal == 1 else along[::-1]), energy_flux])


def outflow(w_4HWN: Tensor, normal: int, gamma: float) -> Tensor:
    """The net flux out of each cell along x (normal 1) or y (normal 2), not yet divided by the spacing."""
    axis = 3 - normal
    n = w_4HWN.shape[axis]
    padded = torch.cat([w_4HWN.narrow(axis, n - 2, 2), w_4HWN, w_4HWN.narrow(axis, 0, 2)], dim=axis)
    difference = padded.narrow(axis, 1, n + 3) - padded.narrow(axis, 0, n + 3)
    slope = limited_slope(difference.narrow(axis, 0, n + 2), difference.narrow(axis, 1, n + 2))
    centre = padded.narrow(axis, 1, n + 2)
    left = torch.add(centre.narrow(axis, 0, n + 1), slope.narrow(axis, 0, n + 1), alpha=0.5)
    right = torch.sub(centre.narrow(axis, 1, n + 1), slope.narrow(axis, 1, n + 1), alpha=0.5)
    flux = hllc_flux(left, right, normal, gamma)
    return flux.narrow(axis, 1, n) - flux.narrow(axis, 0, n)


def stable_step(q_4HWN: Tensor, gamma: float, spacing: tuple[float, float], courant: float) -> Tensor:
    """(N,) the longest time in which no wave crosses more than `courant` cells, in float64."""
    density, u, v, pressure = primitive(q_4HWN, gamma)
    sound = torch.sqrt(gamma * pressure / density)
    rate = (v.abs() + sound) / spacing[0] + (u.abs() + sound) / spacing[1]
    fastest: Tensor = rate.amax(dim=(0, 1)).double()
    return courant / fastest


def ssp_rk2(q_4HWN: Tensor, lengths_N: Tensor, gamma: float, spacing: tuple[float, float]) -> Tensor:
    """The conservative state after one step, whose length may differ between trajectories."""

    def rate(q: Tensor) -> Tensor:
        w = primitive(q, gamma)
        return outflow(w, 2, gamma) / -spacing[0] - outflow(w, 1, gamma) / spacing[1]

    lengths = lengths_N.to(q_4HWN.dtype)
    predicted = torch.addcmul(q_4HWN, lengths, rate(q_4HWN))
    corrected = torch.addcmul(predicted, lengths, rate(predicted))
    return 0.5 * (q_4HWN + corrected)


def advance(
    q_4HWN: Tensor, gamma: float, spacing: tuple[float, float], duration: float, courant: float, dt: float
) -> Tensor:
    """The conservative state after `duration`, each trajectory with its own steps of at most `dt`.

    A trajectory that has arrived waits for the others with steps of length zero, which change nothing, so
    its result does not depend on theirs. Gradients take the lengths of steps as given. `spacing` is (dy, dx).

    Raises:
        DataError: waves are so fast that too many steps would be needed.
    """
    remaining = torch.full((q_4HWN.shape[-1],), duration, dtype=torch.float64, device=q_4HWN.device)
    while (remaining > 0).any():
        longest = stable_step(q_4HWN.detach(), gamma, spacing, courant).clamp(max=dt)
        if (remaining > longest * _MAX_STEPS).any():
            raise DataError(
                f"waves are so fast that more than {_MAX_STEPS} time steps would be needed for {duration:g}; "
                "lower speed and pressure, or raise density"
            )
        lengths = torch.minimum(longest, remaining)
        remaining = remaining - lengths
        if torch.is_grad_enabled() and q_4HWN.requires_grad:
            # The graph of a step keeps a hundred arrays of the state's size, so it is recomputed when needed.
            q_4HWN = checkpoint(ssp_rk2, q_4HWN, lengths, gamma, spacing, use_reentrant=False)
        else:
            q_4HWN = ssp_rk2(q_4HWN, lengths, gamma, spacing)
    return q_4HWN
