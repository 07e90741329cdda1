"""How the change that a network predicts grows with the lead time.

Shape: B samples.
"""

import torch
from torch import Tensor

SATURATION_LEAD_TIME = 0.25
"""The lead time, normalised, at which `lead_time_factor` is tanh 1 = 0.76."""


def lead_time_factor(lead_time_B: Tensor) -> Tensor:
    """(B,) tanh(t / 0.25), the factor of the predicted change: about 4 t for short lead times, 1 for long ones."""
    return torch.tanh(lead_time_B / SATURATION_LEAD_TIME)
