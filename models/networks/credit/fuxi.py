"""FuXi as implemented by miles-credit: patches, one halving, Swin V2 blocks, one doubling.

Sources: Chen et al., FuXi, npj Climate and Atmospheric Science 2023 (arXiv:2306.12873); NCAR/miles-credit,
whose names of submodules are kept.

Shapes: B batch, C channels, T frames, H rows, W columns; h rows and w columns of patches.
"""

from typing import Literal, Self

import torch
import torch.nn.functional as F
from einops import rearrange
from pydantic import Field, model_validator
from torch import Tensor, nn

from pelagos.models.channel_fields import ChannelFields
from pelagos.models.context import Signature
from pelagos.models.layers.named_axis import Axes, NamedAxis
from pelagos.models.layers.network_layers import LayerNames
from pelagos.models.layers.padding import GridSize
from pelagos.models.networks.credit.crossformer import CubeEmbedding
from pelagos.models.networks.credit.earth_padding import PaddingConfig
from pelagos.models.networks.credit.padded_network import PaddedNetwork
from pelagos.models.networks.credit.scale_blocks import DownBlock, TransposedUpBlock
from pelagos.models.networks.credit.spectral_norm import add_spectral_norm, add_spectral_norms, layer_axes
from pelagos.models.networks.credit.swin import CosineAttention, SwinStage
from pelagos.preprocessing.config import Config
from pelagos.preprocessing.errors import ConfigError, DataError


class FuXiConfig(Config):
    """Settings of FuXi; the defaults are a small network for grids of multiples of 8, to which others are padded.

    Attributes:
        form: `pelagos`: any grid, padded to whole patches; lead time and scalars are constant channels; predicts
            the change. `credit`, for published weights: the padded grid must fit; one time step; predicts the
            next state; weights of queries, keys and values are not normalised.
        dim: channels of a patch.
        depth: number of Swin V2 blocks.
        num_heads: attention heads.
        window: (rows, columns) of attention windows, in patches of the halved grid; one number stands for both.
        patch: (rows, columns) of a patch.
        frames: frames of the input; the frames of a variable are neighbouring channels.
        groups: groups of the group normalisations.
        spectral_norm: whether every layer's weight is divided by its largest singular value.
        padding: how fields are extended beyond their grid.
        interpolate: whether an output whose size differs from the input's is interpolated to it.
        checkpointing: whether Swin blocks are recomputed in the backward pass instead of stored.
    """

    kind: Literal["fuxi"] = "fuxi"
    form: Literal["pelagos", "credit"] = "pelagos"
    dim: int = Field(192, gt=0)
    depth: int = Field(6, gt=0)
    num_heads: int = Field(6, gt=0)
    window: int | GridSize = 4
    patch: GridSize = (4, 4)
    frames: int = Field(1, gt=0)
    groups: int = Field(32, gt=0)
    spectral_norm: bool = True
    padding: PaddingConfig = PaddingConfig()
    interpolate: bool = True
    checkpointing: bool = False

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.form == "pelagos" and self.frames != 1:
            raise ConfigError(f"frames is {self.frames}, but a call in the form pelagos has one frame")
        for name, parts in (("num_heads", self.num_heads), ("groups", self.groups)):
            if self.dim % parts:
                raise ConfigError(f"dim {self.dim} is not a multiple of {name} {parts}")
        return self

    def build(self, signature: Signature) -> PaddedNetwork:
        """The network for these variables.

        Raises:
            ConfigError: the inputs are not a whole number of variables, or the form has no use for scalars.
        """
        own = self.form == "pelagos"
        # Patches are halved once: their number along each axis must be even.
        padding = self.padding.build((2 * self.patch[0], 2 * self.patch[1]) if own else (1, 1))
        body = self._body(signature)
        return PaddedNetwork(signature, body, padding, predicts_change=own, interpolate=self.interpolate)

    def _body(self, signature: Signature) -> "FuXi":
        own = self.form == "pelagos"
        num_inputs = len(signature.inputs) + (ChannelFields(signature).num_conditions if own else 0)
        if num_inputs % self.frames:
            raise ConfigError(
                f"{num_inputs} inputs are not a whole number of variables with {self.frames} frames each"
            )
        body = FuXi(
            num_inputs // self.frames,
            len(signature.outputs),
            frames=self.frames,
            patch=self.patch,
            dim=self.dim,
            depth=self.depth,
            num_heads=self.num_heads,
            window=(self.window, self.window) if isinstance(self.window, int) else self.window,
            groups=self.groups,
            checkpointing=self.checkpointing,
        )
        if self.spectral_norm:
            for module in body.modules() if not own else ():
                if isinstance(module, CosineAttention):
                    # See `FrozenSpectralNorm`.
                    add_spectral_norm(module.qkv, frozen=True)
            add_spectral_norms(body)
        return body


class UTransformer(nn.Module):
    """Halves the grid, applies Swin blocks, and doubles the grid again with a skip connection."""

    def __init__(
        self,
        dim: int,
        depth: int,
        num_heads: int,
        window: GridSize,
        groups: int,
        *,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.down = DownBlock(dim, dim, groups)
        self.layer = SwinStage(dim, depth, num_heads, window, checkpointing=checkpointing)
        self.up = TransposedUpBlock(2 * dim, dim, groups)  # of the skip connection's channels, then these
        self.window = window

    def forward(self, x_BChw: Tensor) -> Tensor:
        """(B, C, h, w) to the same shape; h and w must be even."""
        skip_BCHW: Tensor = self.down(x_BChw)
        height, width = skip_BCHW.shape[-2:]
        missing = (-height % self.window[0], -width % self.window[1])
        top, left = (cells // 2 for cells in missing)
        # The added zeros take part in attention, as in the published network.
        x_BCHW = F.pad(skip_BCHW, (left, missing[1] - left, top, missing[0] - top))
        x_BCHW = self.layer(x_BCHW.permute(0, 2, 3, 1).contiguous()).permute(0, 3, 1, 2)
        x_BCHW = x_BCHW[..., top : top + height, left : left + width]
        out: Tensor = self.up(torch.cat([skip_BCHW, x_BCHW], 1))
        return out


class FuXi(nn.Module):
    """The body of FuXi, from padded fields to padded fields.

    Args:
        dim_in: input channels of one frame.
        dim_out: output channels.
        frames: frames of the input, folded into its channels, where the frame varies fastest.
        patch: (rows, columns) of a patch.
        dim: channels of a patch.
        depth: number of Swin V2 blocks.
        num_heads: attention heads.
        window: (rows, columns) of attention windows, in patches of the halved grid.
        groups: groups of the group normalisations.
        checkpointing: whether Swin blocks are recomputed in the backward pass instead of stored.
    """

    def __init__(
        self,
        dim_in: int,
        dim_out: int,
        *,
        frames: int = 1,
        patch: GridSize,
        dim: int,
        depth: int,
        num_heads: int,
        window: GridSize,
        groups: int,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.frames, self.patch = frames, patch
        self.cube_embedding = CubeEmbedding(dim_in, dim, (frames, *patch))
        self.u_transformer = UTransformer(dim, depth, num_heads, window, groups, checkpointing=checkpointing)
        # Each patch is predicted from its token alone, without the overlap that a convolution would have.
        self.fc = nn.Linear(dim, dim_out * patch[0] * patch[1])

    def layer_names(self) -> LayerNames:
        """See `Layered`."""
        inner = ((f"u_transformer.{part}.",) for part in ("down", "layer", "up"))
        return ("cube_embedding.",), *inner, ("fc.",)

    def named_axes(self, reads: NamedAxis) -> dict[str, Axes]:
        """What each axis runs over, for weights with slices of variables, where input channels are those of `reads`.

        Raises:
            DataError: there are several frames.
        """
        if self.frames > 1:
            raise DataError(
                f"a network of kind fuxi of {self.frames} frames has weights of several inputs at once: its variables"
                " are fixed"
            )
        written = NamedAxis(("output",), repeats=self.patch[0] * self.patch[1])
        return {
            "cube_embedding.proj.weight": (None, reads, None, None, None),
            **layer_axes("fc", self.fc, (written, None)),
            "fc.bias": (written,),
        }

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, C T, H, W) to (B, C', H, W), both rounded down to whole patches.

        Raises:
            DataError: the number of patches along an axis is odd.
        """
        for name, size, side in zip(("rows", "columns"), x_BCHW.shape[-2:], self.patch, strict=True):
            if size // side % 2 or size < side:
                raise DataError(
                    f"{size} {name} with padding are {size // side} patches of {side}, but an even number is "
                    f"needed: e.g. {-(-size // (2 * side)) * 2 * side} {name}"
                )
        x_BCTHW = rearrange(x_BCHW, "b (c t) h w -> b c t h w", t=self.frames)
        x_BChw = self.u_transformer(self.cube_embedding(x_BCTHW))
        y_BhwC: Tensor = self.fc(x_BChw.permute(0, 2, 3, 1))
        p, q = self.patch
        # Channels vary fastest within a patch, as published weights have it.
        return rearrange(y_BhwC, "b h w (p q c) -> b c (h p) (w q)", p=p, q=q)
