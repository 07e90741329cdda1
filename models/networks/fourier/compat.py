"""Import and export of weights of the reference SFNO.

Source: scaomath/torch-cfd, folder fno.

Shapes: B batch, X rows, Y columns, T frames.
"""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pelagos.models.foreign_weights import load_state, read_arguments
from pelagos.models.networks.fourier.sfno import SFNO, Activation
from pelagos.preprocessing.config import Config
from pelagos.preprocessing.errors import DataError

SOURCE = "the reference SFNO"
MAX_STEPS = 100
"""The reference counts input frames in hundredths of its time unit."""


class SFNOArguments(Config):
    """The arguments of the reference's SFNO that have an effect in its published form."""

    modes_x: int
    modes_y: int
    modes_t: int
    width: int
    out_dim: Literal[1] = 1
    beta: float = -1e-2
    delta: float = 0.1
    num_spectral_layers: int = 4
    # Literals where the reference declares a choice, of which its published form has one.
    fft_norm: Literal["backward"] = "backward"
    activation: Activation = "ReLU"
    spatial_padding: Literal[0] = 0
    temporal_padding: Literal[True] = True
    channel_expansion: int = 4
    spatial_random_feats: Literal[False] = False
    lift_activation: bool = True
    latent_steps: int = 10
    output_steps: int | None = None

    def build(self) -> SFNO:
        """The untrained network."""
        return SFNO(
            1,
            1,
            width=self.width,
            modes=(self.modes_x, self.modes_y, self.modes_t),
            latent_steps=self.latent_steps,
            num_layers=self.num_spectral_layers,
            expansion=self.channel_expansion,
            activation=self.activation,
            beta=self.beta,
            delta=self.delta,
            form="reference",
            lift_activation=self.lift_activation,
        )


class ReferenceSFNO(nn.Module):
    """SFNO with the reference's call.

    Attributes:
        arguments: the reference's constructor arguments, as given.
        network: SFNO in its reference form.
    """

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        super().__init__()
        self.arguments = dict(arguments)
        read = read_arguments(SFNOArguments, arguments, SOURCE)
        self.network = read.build()
        self.output_steps = read.output_steps

    def forward(self, v_BXYT: Tensor, out_steps: int | None = None) -> Tensor:
        """(B, X, Y, T) to (B, X, Y, T'); by default there are as many output frames as input frames.

        Raises:
            DataError: the grid is too coarse for the modes, or there are more frames than the reference counts.
        """
        _, rows, columns, frames = v_BXYT.shape
        if rows < 2 * self.network.modes[0] or columns < 2 * self.network.modes[1]:
            raise DataError(
                f"a grid of {rows}x{columns} is too coarse for {self.network.modes[:2]} modes: "
                f"it needs at least {2 * self.network.modes[0]}x{2 * self.network.modes[1]}"
            )
        if frames > MAX_STEPS:
            raise DataError(f"{frames} input frames, but the reference counts at most {MAX_STEPS}")
        # The call takes precedence over the constructor, and that over the input.
        steps = out_steps or self.output_steps or frames
        times_BT = torch.arange(1, frames + 1, device=v_BXYT.device).to(v_BXYT)[None] / MAX_STEPS
        y_BCXYT: Tensor = self.network(v_BXYT[:, None], v_BXYT[:, None, ..., -1], times_BT, steps)
        return y_BCXYT[:, 0]


def load_sfno(arguments: Mapping[str, Any], state: Mapping[str, Tensor]) -> ReferenceSFNO:
    """The reference's SFNO in evaluation mode.

    Args:
        arguments: the reference's constructor arguments.
        state: the reference's state dict.

    Raises:
        ConfigError: an argument is unknown, or asks for something that the reference declares but lacks.
        DataError: names or shapes of the state do not fit the arguments.
    """
    with torch.device("meta"):
        network = ReferenceSFNO(arguments)
    # The reference's offsets have no axis for its only output channel.
    load_state(network.network, {k: v[None] if _is_offset(k) else v for k, v in state.items()}, SOURCE)
    return network.eval()


def save_sfno(network: ReferenceSFNO) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The arguments and state dict that the reference's SFNO loads."""
    state = network.network.state_dict()
    return network.arguments, {k: v[0] if _is_offset(k) else v for k, v in state.items()}


def _is_offset(key: str) -> bool:
    return key.startswith("output_operator.conv.bias.")
