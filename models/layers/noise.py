"""Noise: random numbers that condition a network, so that each call is a draw from what may happen.

They are scalars of the signature that no dataset has: every network that knows scalars can be given them, and a
trained one gains them by fine-tuning. Where nobody draws them they are 0, the middle of what they can be.

Source: Alet et al., Skillful joint probabilistic weather forecasting from marginals (2025, arXiv:2506.10772).

Shapes: B samples, S scalars, Z random numbers.
"""

import torch
from torch import Tensor

from pelagos.models.context import Signature
from pelagos.models.layers.conditioning import noise_names, scalar_encoded_as


def noise_columns(signature: Signature) -> list[int]:
    """The columns of the signature's scalars that hold noise."""
    known = set(noise_names(len(signature.scalars)))
    return [column for column, name in enumerate(signature.scalars) if name in known]


def with_noise(scalars_BS: Tensor | None, noise_BZ: Tensor, signature: Signature) -> Tensor:
    """(B, S) scalars of a call with standard normal numbers in their columns, which reach the network as they are."""
    assert scalars_BS is not None, "noise is among the scalars"
    # A copy: the scalars of a call without noise may be kept.
    scalars_BS = scalars_BS.clone()
    scalars_BS[:, noise_columns(signature)] = scalar_encoded_as(noise_BZ).to(scalars_BS)
    return scalars_BS


def draw_noise(samples: int, signature: Signature, device: torch.device) -> Tensor:
    """(B, Z) standard normal numbers of torch's generator."""
    return torch.randn(samples, len(noise_columns(signature)), device=device)
