"""Autoregressive forecasts, one step at a time.

Shapes: B samples, P prognostic, S static, F forcing, D diagnostic channels, H rows, W columns.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
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
    """Yields the frames after 1, ..., num_steps steps, each (B, P+D, H, W), in normalised units.

    Only the frame that the next step starts from stays in memory: keeping, scoring or writing the
    others is up to the caller.

    Args:
        network_call: (B, P+S+F, H, W) fields at a step's initial time to (B, P+D, H, W) fields one
            lead time later.
        initial_BPHW: the known state.
        static_BSHW: fields that never change; S may be 0.
        forcings: maps the number of completed steps to the (B, F, H, W) forcing at that time.
        mask: bool, broadcastable to (B, P+D, H, W), False at points that never have a value. Inputs
            and outputs are set to zero there, the normalised missing value.
        num_steps: the number of calls of the network.
        gradient: the steps through which gradients flow, if they are enabled at all: `all`; a number
            k for the last k; or `pushforward` for the last one only, whose input is the network's own
            output but a constant (Brandstetter et al., 2022, arXiv:2202.03376). Frames of earlier
            steps carry no graph.
    """
    tracked = {"all": num_steps, "pushforward": 1}[gradient] if isinstance(gradient, str) else gradient
    assert tracked > 0, "gradients flow through at least one step"
    num_prognostic = initial_BPHW.shape[1]
    state_BPHW = _zero_missing_points(initial_BPHW, mask)
    for step in range(num_steps):
        # The mode is left before `yield`: a generator must not change that of its caller.
        with torch.set_grad_enabled(torch.is_grad_enabled() and step >= num_steps - tracked):
            fields = [state_BPHW, static_BSHW] + ([forcings(step)] if forcings else [])
            frame_BCHW = _zero_missing_points(network_call(torch.cat(fields, 1)), mask)
        # Prognostic channels come first in the outputs; diagnostic ones are not fed back.
        state_BPHW = frame_BCHW[:, :num_prognostic]
        yield frame_BCHW


class InputHistory:
    """The inputs of earlier steps that a network of several frames sees, newest first."""

    def __init__(self, earlier: Iterable[Tensor]) -> None:
        frames = list(earlier)
        self._earlier = deque(frames, maxlen=len(frames))

    def join(self, fields_BCHW: Tensor) -> Tensor:
        """The current input, followed by the earlier ones."""
        # Without history there is nothing to join: `cat` would copy the input at every step.
        return torch.cat([fields_BCHW, *self._earlier], dim=1) if self._earlier else fields_BCHW

    def push(self, fields_BCHW: Tensor) -> None:
        """Take the current input in, and let go of the oldest."""
        self._earlier.appendleft(fields_BCHW)


def _zero_missing_points(fields_BCHW: Tensor, mask: Tensor | None) -> Tensor:
    if mask is None:
        return fields_BCHW
    # A mask of one channel broadcasts to any number of them.
    return torch.where(mask[:, : fields_BCHW.shape[1]], fields_BCHW, 0)
