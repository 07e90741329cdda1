"""A Fourier neural operator on the sphere: spherical harmonics in place of waves on a torus.

Source: Bonev et al., Spherical Fourier Neural Operators, ICML 2023 (arXiv:2306.03838). Here each harmonic has a matrix
of its own, as each mode has in FNO, since orders differ on a rotating Earth; forecasts of fields turned about the axis
are turned forecasts, to the aliasing of products. Layers are those of `fno`.

Shapes: B batch, C channels, H rows, W columns, K harmonics, I and O channels in and out; h, w of the inner grid.
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
from pelagos.models.layers.named_axis import Axes
from pelagos.models.layers.network_layers import LayerNames
from pelagos.models.layers.precision import full_precision
from pelagos.models.layers.spherical_transform import SphericalTransform, gaussian_grid, places_of
from pelagos.models.networks.fourier.fno import SPECTRAL_GAIN, ConditionalScale, layered_axes, pointwise_mlp
from pelagos.preprocessing.config import Config


class SphericalFNOConfig(Config):
    """Settings of a `SphericalFNO`.

    Attributes:
        width: channels of the layers.
        degrees: of the spherical harmonics, from 0: what a forecast changes has no others. A third of the rows is what
            spectral models take.
        num_layers: number of layers.
        expansion: hidden channels of the lifting, of the layers' MLPs and of the projection, in units of `width`.
        residual: whether the network predicts the change of variables that are also input, which grows with the
            lead time as `lead_time_factor` does.
        checkpointing: whether layers are recomputed in the backward pass instead of stored.
    """

    kind: Literal["spherical_fno"] = "spherical_fno"
    width: int = Field(48, gt=0)
    degrees: int = Field(22, gt=1)
    num_layers: int = Field(4, gt=0)
    expansion: int = Field(2, gt=0)
    residual: bool = True
    checkpointing: bool = False

    def build(self, signature: Signature) -> "SphericalFNO":
        """The network for these variables."""
        return SphericalFNO(signature, self)


class HarmonicConv(nn.Module):
    """Multiplies the coefficients of each harmonic by a complex matrix of its own: gains, and turns round the axis."""

    def __init__(self, width: int, degrees: int) -> None:
        super().__init__()
        number = degrees * (degrees + 1) // 2
        scale = SPECTRAL_GAIN * (2 * width) ** -0.5
        # Harmonics first: a product of matrices for each.
        self.weight = nn.Parameter(scale * torch.randn(2, number, width, width))

    def forward(self, coefficients_BIK2: Tensor) -> Tensor:
        """(B, C, K, 2) to the same shape."""
        with full_precision(coefficients_BIK2):
            cosine_KBI, sine_KBI = coefficients_BIK2.permute(3, 2, 0, 1)
            real_KIO, imaginary_KIO = self.weight
            parts_2KBO = torch.stack(
                [
                    cosine_KBI @ real_KIO - sine_KBI @ imaginary_KIO,
                    sine_KBI @ real_KIO + cosine_KBI @ imaginary_KIO,
                ]
            )
        return parts_2KBO.permute(2, 3, 1, 0)


class SphericalLayer(nn.Module):
    """A convolution over harmonics and a map of each point, conditioned; an MLP; added to the input times a gate."""

    def __init__(self, width: int, degrees: int, expansion: int, num_conditions: int) -> None:
        super().__init__()
        self.harmonic = HarmonicConv(width, degrees)
        self.pointwise = nn.Conv2d(width, width, 1)
        self.scale = ConditionalScale(width, num_conditions)
        self.mlp = pointwise_mlp(width, expansion * width, width)
        self.gate = nn.Parameter(torch.ones(width, 1, 1))

    def forward(self, x_BChw: Tensor, conditions_BK: Tensor, transform: SphericalTransform) -> Tensor:
        """(B, C, h, w) to the same shape."""
        around_BChw = transform.backward(self.harmonic(transform.forward(x_BChw))).to(x_BChw.dtype)
        y_BChw = F.gelu(self.scale(around_BChw + self.pointwise(x_BChw), conditions_BK))
        return torch.addcmul(self.mlp(y_BChw), self.gate, x_BChw)


class SphericalFNO(nn.Module):
    """Lifting, spherical layers and projection on an inner Gaussian grid; for the settings see `SphericalFNOConfig`.

    The inner grid is fine enough for products of two fields without aliasing. Whole grids of any size are served; where
    a call does not say where its points are, they are cells of even latitudes and longitudes.
    """

    def __init__(self, signature: Signature, config: SphericalFNOConfig) -> None:
        super().__init__()
        self.signature, self.residual = signature, config.residual
        self.degrees, self.checkpointing = config.degrees, config.checkpointing
        self.channel_fields = ChannelFields(signature)
        width, hidden = config.width, config.expansion * config.width
        # Besides the fields, each point knows its latitude, on which the Earth's rotation acts.
        self.lifting = pointwise_mlp(len(signature.inputs) + 1, hidden, width)
        self.layers = nn.ModuleList(
            SphericalLayer(width, config.degrees, config.expansion, self.channel_fields.num_conditions)
            for _ in range(config.num_layers)
        )
        self.projection = pointwise_mlp(width, hidden, len(signature.outputs))
        # Three halves of the degrees, rounded up: Orszag's rule.
        self.inner = SphericalTransform(*gaussian_grid(-(-3 * config.degrees // 2)), config.degrees)

    def layer_names(self) -> LayerNames:
        """See `Layered`."""
        return ("lifting.",), *((f"layers.{n}.",) for n in range(len(self.layers))), ("projection.",)

    def named_axes(self) -> dict[str, Axes]:
        """What each axis runs over, for weights with slices of variables or conditions; see `adapt`."""
        return layered_axes(self, positions=1)

    def forward(self, x_BCHW: Tensor, lead_time_B: Tensor, context: Context = ALL_VARIABLES) -> Tensor:
        """(B, C, H, W) and lead times (B,) to (B, C', H, W).

        Raises:
            ValueError: channels or scalars do not fit the network, or the grid does not cover the whole sphere.
        """
        call = self.channel_fields.select(x_BCHW, lead_time_B, context)
        conditions_BK = encode_conditions(lead_time_B, call.scalars, self.signature.scalars)
        shape = (x_BCHW.shape[-2], x_BCHW.shape[-1])
        outer = SphericalTransform(*places_of(context.sphere, shape), self.degrees)
        fields_BChw = self.inner.backward(outer.forward(self.channel_fields.all_inputs(x_BCHW, call)))
        y_BChw = self.lifting(torch.cat([fields_BChw, self._latitude(fields_BChw)], 1).to(x_BCHW.dtype))
        for layer in self.layers:
            if self.checkpointing and torch.is_grad_enabled():
                y_BChw = checkpoint(layer, y_BChw, conditions_BK, self.inner, use_reentrant=False)
            else:
                y_BChw = layer(y_BChw, conditions_BK, self.inner)
        change_BChw = self.projection(y_BChw)
        y_BCHW = outer.backward(self.inner.forward(change_BChw)).to(change_BChw.dtype)
        if self.residual:
            y_BCHW = self.channel_fields.add_change(y_BCHW, x_BCHW, lead_time_B, call)
        return self.channel_fields.requested_outputs(y_BCHW, call)

    def _latitude(self, like_BChw: Tensor) -> Tensor:
        """(B, 1, h, w) the sine of the latitude of each point of the inner grid."""
        return self.inner.sines(like_BChw)[:, None].expand(len(like_BChw), 1, -1, like_BChw.shape[-1])
