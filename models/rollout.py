"""Autoregressive forecasts, a step at a time.

Shapes: B samples, P prognostic, S static, F forcing, D diagnostic channels, H rows, W columns.
"""

from collections.abc import Callable, Iterator
from typing import Literal

import torch
from torch import Tensor

Gradient = Literal["all", "pushforward"] | int


def rollout(
    network_call: Callable[[Tensor], Tensor],
    initial_BPHW: Tensor,
    static_BSHW: Tensor,
    forcings: Callable[[int], Tensor] | None = None,
    mask: Tensor | None = None,
    num_steps: int = 1,
    gradient: Gradient = "all",
) -> Iterator[Tensor]:
    """Frames after 1, ..., num_steps steps, each (B, P+D, H, W), in normalised units.

    Only the frame that the next step starts from is held: whether to keep, score or write the
    others is the caller's choice.

    Args:
        network_call: (B, P+S+F, H, W) fields at a step's initial time to (B, P+D, H, W) fields one
            lead time later.
        initial_BPHW: the known state.
        static_BSHW: fields that never change; S may be 0.
        forcings: from the number of steps done to the (B, F, H, W) forcing at that time.
        mask: bool, broadcastable to (B, P+D, H, W), False at points that never have a value. They
            are reset to zero, the normalised missing value, in what goes in and in what comes out.
        num_steps: how often the network is called.
        gradient: through which steps gradients flow, where they are enabled at all: `all`; the
            last k, given as a number; or `pushforward`, the last one only, whose input then is
            the network's own but a constant (Brandstetter et al. 2022, arXiv 2202.03376). Frames
            of earlier steps carry no graph.
    """
    tracked = {"all": num_steps, "pushforward": 1}[gradient] if isinstance(gradient, str) else gradient
    assert tracked > 0, "gradients flow through at least one step"
    num_prognostic = initial_BPHW.shape[1]
    state_BPHW = _reset(initial_BPHW, mask)
    for step in range(num_steps):
        # Entered and left within the step: a generator must not change the caller's mode.
        with torch.set_grad_enabled(torch.is_grad_enabled() and step >= num_steps - tracked):
            fields = [state_BPHW, static_BSHW] + ([forcings(step)] if forcings else [])
            frame_BCHW = _reset(network_call(torch.cat(fields, 1)), mask)
        state_BPHW = frame_BCHW[:, :num_prognostic]
        yield frame_BCHW


def _reset(fields_BCHW: Tensor, mask: Tensor | None) -> Tensor:
    if mask is None:
        return fields_BCHW
    # A mask of one channel serves any number of them.
    return torch.where(mask[:, : fields_BCHW.shape[1]], fields_BCHW, 0)
