"""SFNO, the spatiotemporal Fourier neural operator of the Spectral-Refiner.

Source: Cao, Brarda, Li and Xi, Spectral-Refiner, ICLR 2025 (arXiv:2405.17211) and scaomath/torch-cfd, whose
names of submodules are kept. That code's results depend on the grid and on the number of output steps. Those of
the form `pelagos` do not; the form `reference` follows the code.

Shapes: B batch, C channels, X rows, Y columns, T frames, L latent steps, K waves; H rows, W columns of a field.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pelagos.models.channel_fields import ChannelFields
from pelagos.models.context import ALL_VARIABLES, Context, Signature
from pelagos.models.layers.named_axis import Axes, NamedAxis
from pelagos.models.layers.network_layers import LayerNames, within
from pelagos.models.layers.padding import margins, pad
from pelagos.models.layers.spectral_conv import SpectralConv
from pelagos.preprocessing.config import Config
from pelagos.preprocessing.errors import DataError

Form = Literal["pelagos", "reference"]
Activation = Literal["GELU", "ReLU"]


class SFNOConfig(Config):
    """Settings of an `SFNO`.

    Attributes:
        width: channels of the layers.
        modes: frequencies used along rows, columns and time.
        latent_steps: points on the time axis from the input to the lead time.
        num_layers: number of spectral layers, including the lifting.
        expansion: hidden channels of the pointwise networks, in units of `width`.
        activation: the activation of all layers.
        beta: growth rate in the encoding of time.
        delta: factor of the last layer's offsets.
        margin: zeros added behind axes that do not wrap, as Fourier modes do, as a share of their length.
        checkpointing: whether layers are recomputed in the backward pass instead of stored.
    """

    kind: Literal["sfno"] = "sfno"
    width: int = Field(16, ge=4)
    modes: tuple[int, int, int] = (12, 12, 4)
    latent_steps: int = Field(10, gt=0)
    num_layers: int = Field(4, ge=2)
    expansion: int = Field(4, gt=0)
    activation: Activation = "GELU"
    beta: float = -1e-2
    delta: float = 0.1
    margin: float = Field(0.125, ge=0, le=1)
    checkpointing: bool = False

    def build(self, signature: Signature) -> "SFNOForecast":
        """The network for these variables."""
        body = SFNO(
            len(signature.inputs) + ChannelFields(signature).num_conditions,
            len(signature.outputs),
            width=self.width,
            modes=self.modes,
            latent_steps=self.latent_steps,
            num_layers=self.num_layers,
            expansion=self.expansion,
            activation=self.activation,
            beta=self.beta,
            delta=self.delta,
            checkpointing=self.checkpointing,
        )
        return SFNOForecast(signature, body, self.margin)


class PointwiseNetwork(nn.Module):
    """An MLP at each point."""

    def __init__(self, width: int, expansion: int, activation: Activation) -> None:
        super().__init__()
        self.linear1 = nn.Conv3d(width, expansion * width, 1)
        self.linear2 = nn.Conv3d(expansion * width, width, 1)
        self.activation = getattr(nn, activation)()

    def forward(self, v_BCXYT: Tensor) -> Tensor:
        """(B, C, X, Y, T) to the same shape."""
        out: Tensor = self.linear2(self.activation(self.linear1(v_BCXYT)))
        return out


class Lifting(nn.Module):
    """Maps any number of input frames to the latent steps."""

    def __init__(self, width: int, conv: SpectralConv, network: PointwiseNetwork) -> None:
        super().__init__()
        # One group: normalised over all channels and the whole grid.
        self.norm = nn.GroupNorm(1, width, eps=1e-7)
        self.proj = nn.Conv3d(width, width, 1)
        self.sconv = conv
        self.mlp = network

    def forward(self, v_BCXYT: Tensor, latent_steps: int) -> Tensor:
        """(B, C, X, Y, T) to (B, C, X, Y, L)."""
        v_BCXYT = self.proj(self.norm(v_BCXYT))
        out: Tensor = self.mlp(self.sconv(v_BCXYT, latent_steps)) + v_BCXYT[..., -1:]
        return out


class OutputOperator(nn.Module):
    """Maps the latent steps to any number of output frames, as changes of the last input frame."""

    def __init__(self, conv: SpectralConv, form: Form) -> None:
        super().__init__()
        self.conv = conv
        self.form = form

    def forward(self, v_BCXYL: Tensor, last_BCXY: Tensor, num_steps: int) -> Tensor:
        """(B, C, X, Y, L) and (B, C, X, Y) to (B, C, X, Y, T')."""
        latent_steps = v_BCXYL.shape[-1]
        trajectory = torch.cat([last_BCXY[..., None], v_BCXYL], -1)
        # Zeros in front, as long as the trajectory, since time is not periodic.
        padded = F.pad(trajectory, (latent_steps + 1, 0))
        # The reference does not resample the zeros with the trajectory, and so stretches time.
        front = latent_steps + 1 if self.form == "reference" else num_steps + 1
        out_BCXYT: Tensor = self.conv(padded, front + num_steps + 1)[..., -num_steps:] + last_BCXY[..., None]
        return out_BCXYT


class SFNO(nn.Module):
    """Input frames to output frames on a doubly periodic grid.

    Args:
        dim_in: input channels; 1 in the form `reference`.
        dim_out: output channels; 1 in the form `reference`.
        width, modes, latent_steps, num_layers, expansion, activation, beta, delta: see `SFNOConfig`.
        form: whether results depend on grid and number of steps as the reference's do.
        lift_activation: whether the lifting ends with the activation.
        checkpointing: whether layers are recomputed in the backward pass instead of stored.
    """

    def __init__(
        self,
        dim_in: int,
        dim_out: int,
        *,
        width: int,
        modes: tuple[int, int, int],
        latent_steps: int,
        num_layers: int,
        expansion: int,
        activation: Activation,
        beta: float,
        delta: float,
        form: Form = "pelagos",
        lift_activation: bool = True,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        assert form == "pelagos" or dim_in == dim_out == 1, "the form reference has one channel"
        # With "forward" weights do not depend on the grid, see `SpectralConv`.
        norm: Literal["forward", "backward"] = "forward" if form == "pelagos" else "backward"
        self.width, self.latent_steps, self.beta, self.form = width, latent_steps, beta, form
        self.modes, self.lift_activation, self.checkpointing = modes, lift_activation, checkpointing
        # The reference adds its one field to every channel of the encoding.
        self.embedding = nn.Conv3d(dim_in, width, 1) if form == "pelagos" else nn.Identity()
        layers = range(num_layers - 1)
        self.lifting_operator = Lifting(
            width,
            SpectralConv(width, width, modes, norm=norm),
            PointwiseNetwork(width, expansion, activation),
        )
        self.spectral_conv = nn.ModuleList(SpectralConv(width, width, modes, norm=norm) for _ in layers)
        self.mlp = nn.ModuleList(PointwiseNetwork(width, expansion, activation) for _ in layers)
        # Carries what lies beyond the modes, as in FNO.
        self.w = nn.ModuleList(nn.Conv3d(width, width, 1) for _ in layers)
        self.activation = getattr(nn, activation)()
        self.reduction = nn.Conv3d(width, dim_out, 1)
        last = SpectralConv(dim_out, dim_out, modes, norm=norm, offset=delta)
        self.output_operator = OutputOperator(last, form)

    def layer_names(self) -> LayerNames:
        """See `Layered`."""
        layers = ((f"spectral_conv.{n}.", f"mlp.{n}.", f"w.{n}.") for n in range(len(self.w)))
        return ("embedding.",), ("lifting_operator.",), *layers, ("reduction.", "output_operator.")

    def forward(self, v_BCXYT: Tensor, last_BCXY: Tensor, times_BT: Tensor, num_steps: int) -> Tensor:
        """(B, C, X, Y, T) at times (B, T), and the outputs' last known frame (B, C', X, Y), to (B, C', X, Y, T')."""
        v_BCXYT = self.embedding(v_BCXYT) + self._encoding(times_BT, v_BCXYT)
        v_BCXYL = self.lifting_operator(v_BCXYT, self.latent_steps)
        if self.lift_activation:
            v_BCXYL = self.activation(v_BCXYL)
        for layer in range(len(self.w)):
            if self.checkpointing and torch.is_grad_enabled():
                v_BCXYL = checkpoint(self._spectral_layer, layer, v_BCXYL, use_reentrant=False)
            else:
                v_BCXYL = self._spectral_layer(layer, v_BCXYL)
        out: Tensor = self.output_operator(self.reduction(v_BCXYL), last_BCXY, num_steps)
        return out

    def _spectral_layer(self, layer: int, v_BCXYL: Tensor) -> Tensor:
        y_BCXYL = self.mlp[layer](self.spectral_conv[layer](v_BCXYL))
        out: Tensor = self.activation(y_BCXYL + self.w[layer](v_BCXYL))
        return out

    def _encoding(self, times_BT: Tensor, v_BCXYT: Tensor) -> Tensor:
        """(B, C, X, Y, T): x, y, t, and waves in t whose amplitude changes at the rate beta."""
        rows, columns = v_BCXYT.shape[2:4]
        x_X, y_Y = (self._coordinates(size, times_BT) for size in (rows, columns))
        # x, y and t take three of the channels.
        waves = torch.arange(1, self.width - 2, device=times_BT.device).to(times_BT)
        phase_BKT = math.pi * waves[:, None] * times_BT[:, None]
        wave_BKT = torch.where((waves % 2 == 1)[:, None], phase_BKT.sin(), phase_BKT.cos())
        wave_BKT = torch.exp(self.beta * times_BT)[:, None] * wave_BKT
        t_BCXYT = torch.cat([times_BT[:, None], wave_BKT], 1)[:, :, None, None]
        shape = (len(times_BT), 1, rows, columns, times_BT.shape[1])
        parts = [x_X[:, None, None].expand(shape), y_Y[:, None].expand(shape)]
        return torch.cat([*parts, t_BCXYT.expand(-1, -1, rows, columns, -1)], 1)

    def _coordinates(self, size: int, like: Tensor) -> Tensor:
        # In the reference both ends of the period are grid points: coordinates depend on the resolution.
        last = 1.0 if self.form == "reference" else (size - 1) / size
        return torch.linspace(0, last, size, dtype=like.dtype, device=like.device)


class SFNOForecast(nn.Module):
    """SFNO with Pelagos's call: the input, held constant up to the lead time, is refined."""

    def __init__(self, signature: Signature, body: SFNO, margin: float = 0.0) -> None:
        super().__init__()
        self.signature, self.body, self.margin = signature, body, margin
        self.channel_fields = ChannelFields(signature)

    def layer_names(self) -> LayerNames:
        """See `Layered`."""
        return within("body", self.body.layer_names())

    def named_axes(self) -> dict[str, Axes]:
        """What each axis runs over, for weights with slices of variables or conditions; see `adapt`.

        Raises:
            DataError: the form has one field.
        """
        if self.body.form == "reference":
            raise DataError(
                "a network of kind sfno in the form reference has one field, and no weights for others"
            )
        axes: dict[str, Axes] = {
            "body.embedding.weight": (None, NamedAxis(("input", "condition")), None, None, None),
            "body.reduction.weight": ("output", None, None, None, None),
            "body.reduction.bias": ("output",),
        }
        # The last convolution mixes the outputs: new ones must not reach those that are known.
        mixed = NamedAxis(("output",), silent=True)
        for name, weight in self.body.output_operator.named_parameters(prefix="body.output_operator"):
            others = (None,) * (weight.dim() - 1)
            axes[name] = (mixed, "output", *others[1:]) if ".weight." in name else ("output", *others)
        return axes

    def forward(self, x_BCHW: Tensor, lead_time_B: Tensor, context: Context = ALL_VARIABLES) -> Tensor:
        """(B, C, H, W) and lead times (B,) to (B, C', H, W).

        Raises:
            ValueError: channels or scalars do not fit the network.
        """
        steps, (height, width) = self.body.latent_steps, x_BCHW.shape[-2:]
        behind = margins((height, width), self.margin, context.periodic)
        call = self.channel_fields.select(x_BCHW, lead_time_B, context)
        fields_BCHW = self.channel_fields.inputs_and_conditions(x_BCHW, lead_time_B, call)
        # The input stands at every latent step; the encoding of time tells the steps apart.
        held_BCXYT = pad(fields_BCHW, *behind)[..., None].expand(-1, -1, -1, -1, steps)
        part_T = torch.arange(1, steps + 1, device=x_BCHW.device) / steps
        times_BT = lead_time_B[:, None].to(x_BCHW.dtype) * part_T.to(x_BCHW.dtype)
        persistence_BCHW = pad(self.channel_fields.persistence(x_BCHW, call), *behind)
        y_BCXYT = self.body(held_BCXYT, persistence_BCHW, times_BT, steps)
        return self.channel_fields.requested_outputs(y_BCXYT[..., :height, :width, -1], call)
