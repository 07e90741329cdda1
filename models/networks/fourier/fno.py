"""A two-dimensional Fourier neural operator, conditioned on lead time and scalars.

Source: Li et al., Fourier Neural Operator for Parametric Partial Differential Equations, ICLR 2021
(arXiv:2010.08895). The layers are normalised as scOT's are.

Shapes: B batch, C channels, H rows, W columns, K conditions.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pelagos.models.channel_fields import ChannelFields
from pelagos.models.context import ALL_VARIABLES, Context, Signature
from pelagos.models.layers.conditioning import conditional_norm, encode_conditions
from pelagos.models.layers.padding import margins, pad
from pelagos.models.layers.spectral_conv import SpectralConv
from pelagos.preprocessing.config import Config


class FNOConfig(Config):
    """Settings of an `FNO`.

    Attributes:
        width: channels of the layers.
        modes: frequencies used along rows and columns; a grid too coarse for them uses the lower ones.
        num_layers: number of Fourier layers.
        expansion: hidden channels of the projection to the outputs, in units of `width`.
        margin: zeros added behind axes that do not wrap, as Fourier modes do, as a share of their length.
        residual: whether the network predicts the change of variables that are also input.
        checkpointing: whether layers are recomputed in the backward pass instead of stored.
    """

    kind: Literal["fno"] = "fno"
    width: int = Field(48, gt=0)
    modes: tuple[int, int] = (16, 16)
    num_layers: int = Field(4, gt=0)
    expansion: int = Field(2, gt=0)
    margin: float = Field(0.125, ge=0, le=1)
    residual: bool = True
    checkpointing: bool = False

    def build(self, signature: Signature) -> "FNO":
        """The network for these variables."""
        return FNO(
            signature,
            width=self.width,
            modes=self.modes,
            num_layers=self.num_layers,
            expansion=self.expansion,
            margin=self.margin,
            residual=self.residual,
            checkpointing=self.checkpointing,
        )


class FourierLayer(nn.Module):
    """x + gelu(norm(spectral convolution of x + pointwise map of x)); eq. 2 of the paper, with a residual."""

    def __init__(self, width: int, modes: tuple[int, int], num_conditions: int) -> None:
        super().__init__()
        self.spectral = SpectralConv(width, width, modes)
        # Carries what lies beyond the modes, which the spectral convolution cuts off.
        self.pointwise = nn.Conv2d(width, width, 1)
        self.norm = conditional_norm(width, num_conditions)

    def forward(self, x_BCHW: Tensor, conditions_BK: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        y_BCHW = self.spectral(x_BCHW) + self.pointwise(x_BCHW)
        # Not in the paper; this is where lead time and scalars enter.
        y_BHWC = self.norm(y_BCHW.permute(0, 2, 3, 1), conditions_BK)
        return x_BCHW + F.gelu(y_BHWC).permute(0, 3, 1, 2)


class FNO(nn.Module):
    """Lifting, Fourier layers and projection, for fields of any size; for the arguments see `FNOConfig`."""

    def __init__(
        self,
        signature: Signature,
        *,
        width: int,
        modes: tuple[int, int],
        num_layers: int,
        expansion: int,
        margin: float,
        residual: bool,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.signature, self.margin, self.residual = signature, margin, residual
        self.checkpointing = checkpointing
        self.channel_fields = ChannelFields(signature)
        num_conditions = self.channel_fields.num_conditions
        self.lifting = nn.Conv2d(len(signature.inputs), width, 1)
        self.layers = nn.ModuleList(FourierLayer(width, modes, num_conditions) for _ in range(num_layers))
        hidden = expansion * width
        self.projection = nn.Sequential(
            # Of each point alone, as the lifting is: only Fourier layers look around, and any grid will do.
            nn.Conv2d(width, hidden, 1),
            nn.GELU(),
            nn.Conv2d(hidden, len(signature.outputs), 1),
        )

    def forward(self, x_BCHW: Tensor, lead_time_B: Tensor, context: Context = ALL_VARIABLES) -> Tensor:
        """(B, C, H, W) and lead times (B,) to (B, C', H, W).

        Raises:
            ValueError: channels or scalars do not fit the network.
        """
        height, width = x_BCHW.shape[-2:]
        call = self.channel_fields.select(x_BCHW, lead_time_B, context)
        conditions_BK = encode_conditions(lead_time_B, call.scalars)
        y_BCHW = self.lifting(self.channel_fields.all_inputs(x_BCHW, call))
        # Padding after the lifting, cropping before the projection: neither of these sees the margin.
        y_BCHW = pad(y_BCHW, *margins((height, width), self.margin, context.periodic))
        for layer in self.layers:
            if self.checkpointing and torch.is_grad_enabled():
                y_BCHW = checkpoint(layer, y_BCHW, conditions_BK, use_reentrant=False)
            else:
                y_BCHW = layer(y_BCHW, conditions_BK)
        y_BCHW = self.projection(y_BCHW[..., :height, :width])
        if self.residual:
            y_BCHW = y_BCHW + self.channel_fields.persistence(x_BCHW, call)
        return self.channel_fields.requested_outputs(y_BCHW, call)
