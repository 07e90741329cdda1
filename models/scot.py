"""ScOT: a U-shaped Swin transformer with lead-time conditioning; Poseidon's exactly, and Pelagos's own.

Source: Herde et al., Poseidon (2024, arXiv:2405.19101), and its code. Names of weights are the official ones.
What Pelagos changes is listed in `Rules`, one switch each.

Legend: B batch, C channels, H rows and W columns of pixels, h and w those of tokens, D channels of a token,
S scalars, K conditions.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pelagos.models.adapt import Kind
from pelagos.models.attention import Tiling, WindowAttention
from pelagos.models.conditioning import ConditionalLayerNorm, condition_names, conditions, layer_norm
from pelagos.models.context import Context, Signature
from pelagos.models.initialization import LAYER_SCALE, initialize
from pelagos.models.padding import NOWHERE, Fill, pad
from pelagos.models.patches import PatchEmbedding, PatchMerging, PatchRecovery, PatchUnmerging, take
from pelagos.models.resample import fourier_resample
from pelagos.models.selection import select
from pelagos.models.skips import ConvNeXtBlock, ResNetBlock
from pelagos.preprocessing.config import Config
from pelagos.preprocessing.errors import ConfigError

Pair = tuple[int, int]
Flags = tuple[bool, bool]
EVERYTHING = Context()


@dataclass(frozen=True)
class Rules:
    """Where the networks of this file differ; the defaults are Pelagos's choice.

    Attributes:
        any_size: serve any grid: windows are clamped and shifted by the grid of the call, distances are in
            tokens whatever the window, pixels are padded to whole patches. Else (the reference) all is fixed by
            `image_size`, to which fields of other sizes are resampled by FFT, and back.
        boundaries: on axes that the call says are periodic, windows, padding and convolutions wrap around; on
            others the last convolution repeats edge values. Else (the reference) all padding is zeros.
        residual: what is added to the output: "lead_time": the input of the same variable, the network's part being
            multiplied by tanh(lead time), so that lead time 0 gives the input back (variables that are
            not input are the network's alone); "input" (the reference's `learn_residual`): the input; "none".
        initialization: "poseidon": normal with one deviation for all weights, norms' gains near 0, skips off;
            "pelagos": deviations by fan-in, gains of norms at 1, skips on, no smoothing by the last convolution.
    """

    any_size: bool = True
    boundaries: bool = True
    residual: Literal["lead_time", "input", "none"] = "lead_time"
    initialization: Literal["pelagos", "poseidon"] = "pelagos"


PELAGOS = Rules()
POSEIDON = Rules(any_size=False, boundaries=False, residual="none", initialization="poseidon")


class ScOTConfig(Config):
    """Settings of a `ScOT`; the defaults are Poseidon-T's sizes with Pelagos's rules.

    Attributes:
        preset: whose `Rules`.
        embed_dim: channels of a token on the finest grid, doubled from level to level.
        depths: transformer blocks of each level, in encoder and decoder alike.
        num_heads: attention heads of each level.
        skip_connections: blocks on the skip connection of each level; the last is the bottleneck.
        window_size: longest side of a window, in tokens.
        patch_size: side of a patch, in pixels.
        mlp_ratio: hidden channels of a block's MLP, in units of its channels.
        residual_model: kind of the blocks on skip connections.
        use_conditioning: whether lead time and scalars condition the norms.
        qkv_bias: whether queries and values have a bias.
        position_bias_dim: hidden width of the networks of position biases; small networks gain from fewer.
        use_absolute_embeddings: learned positions, for a network of fixed size.
        layer_norm_eps: added to variances.
        initializer_range: deviation of initial weights where `Rules.initialization` is "poseidon".
        image_size: the side of fields of a network of fixed size; the signature's shape if absent.
        checkpointing: compute blocks again in the backward pass instead of keeping what they made.
    """

    kind: Literal["scot"] = "scot"
    preset: Literal["pelagos", "poseidon"] = "pelagos"
    embed_dim: int = Field(48, gt=0)
    depths: tuple[int, ...] = (4, 4, 4, 4)
    num_heads: tuple[int, ...] = (3, 6, 12, 24)
    skip_connections: tuple[int, ...] = (2, 2, 2, 0)
    window_size: int = Field(16, gt=0)
    patch_size: int = Field(4, gt=0)
    mlp_ratio: float = Field(4.0, gt=0)
    residual_model: Literal["convnext", "resnet"] = "convnext"
    use_conditioning: bool = True
    qkv_bias: bool = True
    position_bias_dim: int = Field(512, gt=0)
    use_absolute_embeddings: bool = False
    layer_norm_eps: float = Field(1e-5, gt=0)
    initializer_range: float = Field(0.02, gt=0)
    image_size: int | None = Field(None, gt=0)
    checkpointing: bool = False

    def build(self, signature: Signature) -> "ScOT":
        """The network for these variables, with fresh weights."""
        return ScOT(signature, self, POSEIDON if self.preset == "poseidon" else PELAGOS)


class Dense(nn.Module):
    """A linear layer under the official name."""

    def __init__(self, dim_in: int, dim_out: int) -> None:
        super().__init__()
        self.dense = nn.Linear(dim_in, dim_out)

    def forward(self, x: Tensor) -> Tensor:
        """(*, D) to (*, D')."""
        out: Tensor = self.dense(x)
        return out


class Attention(nn.Module):
    """Window attention and the layer that mixes its heads."""

    def __init__(self, dim: int, num_heads: int, tiling: Tiling, *, qkv_bias: bool, bias_dim: int) -> None:
        super().__init__()
        self.self = WindowAttention(dim, num_heads, tiling, qkv_bias=qkv_bias, bias_dim=bias_dim)
        self.output = Dense(dim, dim)

    def forward(self, x_BhwD: Tensor, periodic: Flags) -> Tensor:
        """(B, h, w, D) to the same shape."""
        grid = (x_BhwD.shape[1], x_BhwD.shape[2])
        out: Tensor = self.output(self.self(x_BhwD.flatten(1, 2), grid, periodic))
        return out.view(x_BhwD.shape)


class Block(nn.Module):
    """Attention and an MLP, each normalised before it is added (SwinV2's residual post-norm)."""

    def __init__(
        self, dim: int, num_heads: int, tiling: Tiling, num_conditions: int, config: ScOTConfig
    ) -> None:
        super().__init__()
        hidden = int(config.mlp_ratio * dim)
        self.attention = Attention(
            dim, num_heads, tiling, qkv_bias=config.qkv_bias, bias_dim=config.position_bias_dim
        )
        self.layernorm_before = layer_norm(dim, num_conditions, config.layer_norm_eps)
        self.intermediate = Dense(dim, hidden)
        self.output = Dense(hidden, dim)
        self.layernorm_after = layer_norm(dim, num_conditions, config.layer_norm_eps)

    def forward(self, x_BhwD: Tensor, conditions_BK: Tensor, periodic: Flags) -> Tensor:
        """(B, h, w, D) to the same shape."""
        x_BhwD = x_BhwD + self.layernorm_before(self.attention(x_BhwD, periodic), conditions_BK)
        hidden: Tensor = self.output(F.gelu(self.intermediate(x_BhwD)))
        return x_BhwD + self.layernorm_after(hidden, conditions_BK)


class EncoderStage(nn.Module):
    """The blocks of one level, and the step to the next coarser one where there is one."""

    def __init__(self, blocks: list[Block], downsample: PatchMerging | None, *, checkpointing: bool) -> None:
        super().__init__()
        self.blocks, self.downsample = nn.ModuleList(blocks), downsample
        self.checkpointing = checkpointing

    def forward(self, x_BhwD: Tensor, conditions_BK: Tensor, periodic: Flags) -> tuple[Tensor, Tensor]:
        """What the blocks make of the tokens, and the tokens for the next stage."""
        y_BhwD = apply_blocks(self.blocks, x_BhwD, conditions_BK, periodic, checkpointing=self.checkpointing)
        if self.downsample is None:
            return y_BhwD, y_BhwD
        return y_BhwD, self.downsample(y_BhwD + x_BhwD, conditions_BK, periodic)


class DecoderStage(nn.Module):
    """The blocks of one level, and the step to the next finer one where there is one."""

    def __init__(self, blocks: list[Block], upsample: PatchUnmerging | None, *, checkpointing: bool) -> None:
        super().__init__()
        self.blocks, self.upsample = nn.ModuleList(blocks), upsample
        self.checkpointing = checkpointing

    def forward(self, x_BhwD: Tensor, conditions_BK: Tensor, periodic: Flags, grid: Pair) -> Tensor:
        """Tokens of the grid given, that of the next finer level."""
        x_BhwD = apply_blocks(self.blocks, x_BhwD, conditions_BK, periodic, checkpointing=self.checkpointing)
        return x_BhwD if self.upsample is None else self.upsample(x_BhwD, conditions_BK, grid)


def apply_blocks(
    blocks: Iterable[nn.Module],
    x_BhwD: Tensor,
    conditions_BK: Tensor,
    periodic: Flags,
    *,
    checkpointing: bool,
) -> Tensor:
    """One block after the other; when checkpointing, what they compute is not kept for the gradient."""
    for block in blocks:
        if checkpointing and torch.is_grad_enabled():
            x_BhwD = checkpoint(block, x_BhwD, conditions_BK, periodic, use_reentrant=False)
        else:
            x_BhwD = block(x_BhwD, conditions_BK, periodic)
    return x_BhwD


class Layers(nn.Module):
    """The stages of the encoder, finest first, or of the decoder, coarsest first."""

    def __init__(self, stages: Iterable[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(stages)


class ScOT(nn.Module):
    """The network; see `ScOTConfig` and `Rules`.

    Attributes:
        signature: the variables and scalars that it has weights for.
        config: its sizes.
        rules: its behaviour.
        foreign: arguments of the reference that say nothing about this network, kept for the way back.
    """

    def __init__(self, signature: Signature, config: ScOTConfig, rules: Rules = PELAGOS) -> None:
        super().__init__()
        self.signature, self.config, self.rules = signature, config, rules
        self.foreign: Mapping[str, Any] = {}
        self.image_size = None if rules.any_size else _image_size(signature, config)
        _check(signature, config, rules)
        self.num_conditions = len(condition_names(signature.scalars)) if config.use_conditioning else 0
        num_inputs, num_outputs = len(signature.inputs), len(signature.outputs)
        dim, patch, eps = config.embed_dim, config.patch_size, config.layer_norm_eps
        positions = self._grid(0) if config.use_absolute_embeddings else None
        self.embeddings = PatchEmbedding(num_inputs, dim, patch, self.num_conditions, eps, positions)
        levels = range(len(config.depths))
        self.encoder = Layers(self._encoder_stage(level) for level in levels)
        self.decoder = Layers(self._decoder_stage(level) for level in reversed(levels))
        self.residual_blocks = nn.ModuleList(self._skip_blocks(level) for level in levels)
        self.patch_recovery = PatchRecovery(dim, num_outputs, patch)
        initialize(self, rules.initialization, config.initializer_range)

    def named_axes(self) -> dict[str, tuple[Kind | None, ...]]:
        """For weights with slices of variables or conditions, what each axis runs over."""
        axes: dict[str, tuple[Kind | None, ...]] = {
            "embeddings.patch_embeddings.projection.weight": (None, "input", None, None),
            "patch_recovery.projection.weight": (None, "output", None, None),
            "patch_recovery.projection.bias": ("output",),
            "patch_recovery.mixup.weight": ("output", "output", None, None),
        }
        for name, module in self.named_modules():
            if isinstance(module, ConditionalLayerNorm):
                axes |= {f"{name}.{part}.weight": (None, "condition") for part in ("weight", "bias")}
        return axes

    def _dim(self, level: int) -> int:
        return self.config.embed_dim * 2**level

    def _grid(self, level: int) -> Pair | None:
        if self.image_size is None:
            return None
        side = self.image_size // self.config.patch_size // 2**level
        return side, side

    def _block(self, level: int, *, shifted: bool) -> Block:
        hidden = -200.0 if self.image_size else float("-inf")
        tiling = Tiling(self.config.window_size, shifted, self._grid(level), hidden)
        heads = self.config.num_heads[level]
        return Block(self._dim(level), heads, tiling, self.num_conditions, self.config)

    def _encoder_stage(self, level: int) -> EncoderStage:
        blocks = [self._block(level, shifted=i % 2 == 1) for i in range(self.config.depths[level])]
        last = level == len(self.config.depths) - 1
        downsample = (
            None if last else PatchMerging(self._dim(level), self.num_conditions, self.config.layer_norm_eps)
        )
        return EncoderStage(blocks, downsample, checkpointing=self.config.checkpointing)

    def _decoder_stage(self, level: int) -> DecoderStage:
        # The reference builds these blocks in reverse, so that it is the last that is never shifted.
        depth = self.config.depths[level]
        blocks = [self._block(level, shifted=(depth - 1 - i) % 2 == 1) for i in range(depth)]
        upsample = (
            PatchUnmerging(self._dim(level), self.num_conditions, self.config.layer_norm_eps)
            if level
            else None
        )
        return DecoderStage(blocks, upsample, checkpointing=self.config.checkpointing)

    def _skip_blocks(self, level: int) -> nn.ModuleList:
        dim, scale = self._dim(level), LAYER_SCALE[self.rules.initialization]
        if self.config.residual_model == "resnet":
            return nn.ModuleList(ResNetBlock(dim) for _ in range(self.config.skip_connections[level]))
        return nn.ModuleList(
            ConvNeXtBlock(dim, self.num_conditions, self.config.layer_norm_eps, scale)
            for _ in range(self.config.skip_connections[level])
        )

    def forward(
        self, x_BCHW: Tensor, lead_time_B: Tensor | None = None, context: Context = EVERYTHING
    ) -> Tensor:
        """Fields (B, C, H, W) and lead times (B,) to (B, C', H, W).

        Only a network without conditioning can do without lead times.

        Raises:
            ValueError: channels, lead times, scalars or the size do not fit the network.
        """
        if lead_time_B is None:
            if self.config.use_conditioning:
                raise ValueError("the network is conditioned on lead times, and none were given")
            lead_time_B = x_BCHW.new_zeros(len(x_BCHW))
        chosen = select(self.signature, x_BCHW, lead_time_B, context)
        periodic = context.periodic if self.rules.boundaries else NOWHERE
        fields_BCHW = self._fit(x_BCHW, periodic)
        conditions_BK = conditions(lead_time_B, chosen.scalars)
        tokens_BhwD = self.embeddings(fields_BCHW, conditions_BK, chosen.inputs)
        tokens_BhwD = self._transform(tokens_BhwD, conditions_BK, periodic)
        size = (x_BCHW.shape[2], x_BCHW.shape[3]) if self.image_size is None else (self.image_size,) * 2
        fill: Fill = "edge" if self.rules.boundaries else "zeros"
        y_BCHW = self.patch_recovery(tokens_BhwD, size, chosen.outputs, periodic, fill)
        if self.rules.residual == "input":
            y_BCHW = add_input(y_BCHW, fields_BCHW, chosen.residual)
        if y_BCHW.shape[-2:] != x_BCHW.shape[-2:]:
            y_BCHW = fourier_resample(y_BCHW, (x_BCHW.shape[2], x_BCHW.shape[3]))
        if self.rules.residual == "lead_time":
            y_BCHW = add_input(y_BCHW, x_BCHW, chosen.residual, torch.tanh(lead_time_B))
        return y_BCHW

    def _fit(self, x_BCHW: Tensor, periodic: Flags) -> Tensor:
        height, width = x_BCHW.shape[2:]
        if self.image_size is None:
            patch = self.config.patch_size
            return pad(x_BCHW, (0, -height % patch), (0, -width % patch), periodic, "edge")
        if height != width:
            raise ValueError(
                f"fields of {height} x {width}: this network takes square ones, best {self.image_size} x {self.image_size}"
            )
        return x_BCHW if height == self.image_size else fourier_resample(x_BCHW, (self.image_size,) * 2)

    def _transform(self, x_BhwD: Tensor, conditions_BK: Tensor, periodic: Flags) -> Tensor:
        kept = []
        for stage in self.encoder.layers:
            y_BhwD, x_BhwD = stage(x_BhwD, conditions_BK, periodic)
            kept.append(y_BhwD)
        skips = [
            apply_blocks(blocks, y_BhwD, conditions_BK, periodic, checkpointing=self.config.checkpointing)
            for blocks, y_BhwD in zip(self.residual_blocks, kept, strict=True)
        ]
        x_BhwD = skips.pop()
        for stage in self.decoder.layers:
            finer = (skips[-1] if skips else x_BhwD).shape[1:3]
            x_BhwD = stage(x_BhwD, conditions_BK, periodic, finer)
            if skips:
                x_BhwD = x_BhwD + skips.pop()
        return x_BhwD


def add_input(
    y_BCHW: Tensor, x_BCHW: Tensor, residual: tuple[int, ...], factor_B: Tensor | None = None
) -> Tensor:
    """Input + factor * y for outputs that have an input (`residual` >= 0), y for the others."""
    known_C = torch.tensor([channel >= 0 for channel in residual], device=y_BCHW.device)[:, None, None]
    base_BCHW = take(x_BCHW, tuple(max(channel, 0) for channel in residual), 1)
    if factor_B is not None:
        y_BCHW = y_BCHW * torch.where(known_C, factor_B[:, None, None, None], 1)
    return y_BCHW + torch.where(known_C, base_BCHW, 0)


def _image_size(signature: Signature, config: ScOTConfig) -> int:
    size = config.image_size or (signature.shape[0] if signature.shape else None)
    if size is None:
        raise ConfigError("a network of fixed size needs `image_size`, or a grid in its signature")
    if size % config.patch_size:
        raise ConfigError(f"image_size {size} is not a multiple of patch_size {config.patch_size}")
    return size


def _check(signature: Signature, config: ScOTConfig, rules: Rules) -> None:
    lengths = {name: len(getattr(config, name)) for name in ("depths", "num_heads", "skip_connections")}
    if len(set(lengths.values())) > 1:
        raise ConfigError(f"one entry a level is needed in each of {lengths}")
    if signature.scalars and not config.use_conditioning:
        raise ConfigError(f"without use_conditioning the scalars {signature.scalars} would not be heard")
    if rules.any_size and (config.use_absolute_embeddings or config.image_size):
        raise ConfigError(
            "image_size and use_absolute_embeddings are for networks of one size: preset poseidon"
        )
