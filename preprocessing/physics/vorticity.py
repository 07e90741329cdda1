"""Velocity and vorticity of incompressible flow in Fourier space.

The vorticity's coefficient at k = 0 vanishes by definition. Here it holds the mean flow (U, V) as
U + i V, so that one complex field is the whole state of a flow. The real inverse transform ignores the
imaginary part at k = 0, so both maps below are plain products with complex factors.

Shapes: N trajectories, H rows, W columns, K columns of the real transform.
"""

import torch
from torch import Tensor

from pelagos.preprocessing.physics.spectral import Modes


def biot_savart(modes: Modes) -> Tensor:
    """(2, H, K) factors from vorticity to velocity: u = d psi/dy, v = -d psi/dx, -Lap psi = w."""
    # At k = 0 there is no stream function: the 1 added keeps the quotient finite, and the last factor removes it.
    inverse = 1 / (modes.square + modes.mean) * (1 - modes.mean)
    # Times U + i V at k = 0 these are U + i V and V - i U, whose real parts are the mean flow.
    return torch.stack([modes.ddy * inverse + modes.mean, -modes.ddx * inverse - 1j * modes.mean])


def curl(modes: Modes) -> Tensor:
    """(2, H, K) factors whose products with the coefficients of u and of v add up to the vorticity's."""
    return torch.stack([modes.mean - modes.ddy, modes.ddx + 1j * modes.mean])


def to_vorticity(modes: Modes, vector_N2HW: Tensor) -> Tensor:
    """The coefficients (N, H, K) of the curl of a vector field, with its mean at k = 0."""
    return (curl(modes) * modes.forward(vector_N2HW)).sum(dim=1)


def to_velocity(modes: Modes, coefficients_NHK: Tensor) -> Tensor:
    """The divergence-free velocity (N, 2, H, W) of the coefficients that `to_vorticity` gives."""
    return modes.backward(biot_savart(modes) * coefficients_NHK[:, None])
