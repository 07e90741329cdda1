"""A two-dimensional Fourier neural operator, conditioned on lead time and scalars.

Source: Li et al., Fourier Neural Operator for Parametric Partial Differential Equations, ICLR 2021
(arXiv:2010.08895). As in later codes of its authors (neuraloperator 2.0) a layer ends with an MLP at each point, fields
are lifted by two maps, and nothing is normalised on the way: amplitudes matter to an operator.

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
from pelagos.models.layers.conditioning import encode_conditions
from pelagos.models.layers.named_axis import Axes, NamedAxis
from pelagos.models.layers.network_layers import LayerNames
from pelagos.models.layers.padding import margins
from pelagos.models.layers.spectral_conv import SpectralConv
from pelagos.preprocessing.config import Config


class FNOConfig(Config):
    """Settings of an `FNO`.

    Attributes:
        width: channels of the layers.
        modes: frequencies used along rows and columns; a grid too coarse for them uses the lower ones.
        num_layers: number of Fourier layers.
        expansion: hidden channels of the lifting and of the projection, in units of `width`.
        mlp_expansion: those of the layers' MLPs.
        margin: zeros added behind axes that do not wrap, as Fourier modes do, as a share of their length.
        residual: whether the network predicts the change of variables that are also input, which grows with the
            lead time as `lead_time_factor` does.
        checkpointing: whether layers are recomputed in the backward pass instead of stored.
    """

    kind: Literal["fno"] = "fno"
    width: int = Field(48, gt=0)
    modes: tuple[int, int] = (16, 16)
    num_layers: int = Field(4, gt=0)
    expansion: int = Field(2, gt=0)
    mlp_expansion: float = Field(1, gt=0)
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
            mlp_expansion=self.mlp_expansion,
            margin=self.margin,
            residual=self.residual,
            checkpointing=self.checkpointing,
        )


SPECTRAL_GAIN = 0.1
"""Scales the initial weights of the modes. Small ones fit the training set as well and generalise better: the error of
one step of Kolmogorov flow, 32 x 32, is 0.084 against 0.095 with weights that keep the variance (one seed)."""


class ConditionalScale(nn.Module):
    """Multiplies channels by gains and adds shifts that are affine in the conditions; at first nearly the identity."""

    def __init__(self, dim: int, num_conditions: int) -> None:
        super().__init__()
        self.gain = nn.Linear(num_conditions, dim)
        self.shift = nn.Linear(num_conditions, dim)
        for part in (self.gain, self.shift):
            # Small, but not zero: conditions have a gradient from the first step.
            nn.init.normal_(part.weight, std=0.02)
            nn.init.zeros_(part.bias)

    def forward(self, x_BCHW: Tensor, conditions_BK: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        gain_BC, shift_BC = self.gain(conditions_BK), self.shift(conditions_BK)
        return torch.addcmul(shift_BC[:, :, None, None], x_BCHW, 1 + gain_BC[:, :, None, None])


class FourierLayer(nn.Module):
    """The paper's layer (eq. 2), conditioned, and an MLP at each point, added to the input times a gate."""

    def __init__(self, width: int, modes: tuple[int, int], hidden: int, num_conditions: int) -> None:
        super().__init__()
        self.spectral = SpectralConv(width, width, modes, gain=SPECTRAL_GAIN)
        self.pointwise = nn.Conv2d(width, width, 1)
        self.scale = ConditionalScale(width, num_conditions)
        self.mlp = pointwise_mlp(width, hidden, width)
        self.gate = nn.Parameter(torch.ones(width, 1, 1))

    def forward(self, x_BCHW: Tensor, conditions_BK: Tensor, behind: tuple[int, int] = (0, 0)) -> Tensor:
        """(B, C, H, W) to the same shape; `behind` are zeros that the transform sees behind rows and columns."""
        y_BCHW = self.spectral(x_BCHW, behind=behind) + self.pointwise(x_BCHW)
        y_BCHW = F.gelu(self.scale(y_BCHW, conditions_BK))
        return torch.addcmul(self.mlp(y_BCHW), self.gate, x_BCHW)


def layered_axes(network: nn.Module, positions: int) -> dict[str, Axes]:
    """The named axes of a network of lifting, conditioned layers and projection.

    Args:
        network: see FNO.
        positions: channels of places that the lifting reads after the fields.
    """
    axes: dict[str, Axes] = {
        "lifting.0.weight": (None, NamedAxis(("input",), rest=positions), None, None),
        "projection.2.weight": ("output", None, None, None),
        "projection.2.bias": ("output",),
    }
    for name, module in network.named_modules():
        if isinstance(module, ConditionalScale):
            axes |= {f"{name}.{part}.weight": (None, "condition") for part in ("gain", "shift")}
    return axes


def pointwise_mlp(dim_in: int, hidden: int, dim_out: int) -> nn.Sequential:
    """Two linear maps of the channels of each point, and a GELU between them."""
    return nn.Sequential(nn.Conv2d(dim_in, hidden, 1), nn.GELU(), nn.Conv2d(hidden, dim_out, 1))


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
        mlp_expansion: float,
        margin: float,
        residual: bool,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.signature, self.margin, self.residual = signature, margin, residual
        self.checkpointing = checkpointing
        self.channel_fields = ChannelFields(signature)
        num_conditions = self.channel_fields.num_conditions
        hidden, mlp_hidden = expansion * width, max(1, round(mlp_expansion * width))
        # Besides the fields, each point knows where it lies between walls.
        self.lifting = pointwise_mlp(len(signature.inputs) + 2, hidden, width)
        self.layers = nn.ModuleList(
            FourierLayer(width, modes, mlp_hidden, num_conditions) for _ in range(num_layers)
        )
        # Of each point alone, as the lifting is: only Fourier layers look around, and any grid will do.
        self.projection = pointwise_mlp(width, hidden, len(signature.outputs))

    def layer_names(self) -> LayerNames:
        """See `Layered`."""
        return ("lifting.",), *((f"layers.{n}.",) for n in range(len(self.layers))), ("projection.",)

    def named_axes(self) -> dict[str, Axes]:
        """What each axis runs over, for weights with slices of variables or conditions; see `adapt`."""
        return layered_axes(self, positions=2)

    def forward(self, x_BCHW: Tensor, lead_time_B: Tensor, context: Context = ALL_VARIABLES) -> Tensor:
        """(B, C, H, W) and lead times (B,) to (B, C', H, W).

        Raises:
            ValueError: channels or scalars do not fit the network.
        """
        height, width = x_BCHW.shape[-2:]
        call = self.channel_fields.select(x_BCHW, lead_time_B, context)
        conditions_BK = encode_conditions(lead_time_B, call.scalars, self.signature.scalars)
        fields_BCHW = self.channel_fields.all_inputs(x_BCHW, call)
        y_BCHW = self.lifting(torch.cat([fields_BCHW, positions(x_BCHW, context.periodic)], 1))
        rows, columns = margins((height, width), self.margin, context.periodic)
        # Only the transforms see the margin: all else works on a quarter more points with it, and learns no better.
        behind = rows[1], columns[1]
        for layer in self.layers:
            if self.checkpointing and torch.is_grad_enabled():
                y_BCHW = checkpoint(layer, y_BCHW, conditions_BK, behind, use_reentrant=False)
            else:
                y_BCHW = layer(y_BCHW, conditions_BK, behind)
        y_BCHW = self.projection(y_BCHW)
        if self.residual:
            y_BCHW = self.channel_fields.add_change(y_BCHW, x_BCHW, lead_time_B, call)
        return self.channel_fields.requested_outputs(y_BCHW, call)


def positions(x_BCHW: Tensor, periodic: tuple[bool, bool]) -> Tensor:
    """(B, 2, H, W) row and column, from -1 at the first wall to 1 at the last; 0 along axes that wrap.

    A place on a torus means nothing: forecasts of shifted fields are shifted forecasts.
    """
    size = x_BCHW.shape[-2:]
    rows, columns = (
        x_BCHW.new_zeros(length)
        if wraps
        else torch.linspace(-1, 1, length, dtype=x_BCHW.dtype, device=x_BCHW.device)
        for length, wraps in zip(size, periodic, strict=True)
    )
    maps_2HW = torch.stack([rows[:, None].expand(size), columns[None].expand(size)])
    return maps_2HW.expand(len(x_BCHW), -1, -1, -1)
