"""ScOT: a U-shaped Swin transformer conditioned on lead time; Poseidon's to rounding, and Pelagos's own.

Source: Herde et al., Poseidon (2024, arXiv:2405.19101), and its code. Names of weights are the official ones.
What Pelagos changes is listed in `Rules`, one switch each.

Legend: B batch, C channels, H rows and W columns of pixels, h and w those of tokens, D channels of a token,
S scalars, K conditions.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from pelagos.models.adapt import Kind
from pelagos.models.call_selection import select
from pelagos.models.context import Context, Signature
from pelagos.models.layers.conditioning import ConditionalLayerNorm, condition_names, conditions
from pelagos.models.layers.fourier_resample import fourier_resample
from pelagos.models.layers.padding import NOWHERE, pad
from pelagos.models.networks.scot.attention import Tiling
from pelagos.models.networks.scot.initialization import LAYER_SCALE, initialize
from pelagos.models.networks.scot.patches import (
    PatchEmbedding,
    PatchMerging,
    PatchRecovery,
    PatchUnmerging,
    take,
)
from pelagos.models.networks.scot.skips import ConvNeXtBlock, ResNetBlock
from pelagos.models.networks.scot.stages import (
    Block,
    BlockSizes,
    DecoderStage,
    EncoderStage,
    Stages,
    apply_blocks,
)
from pelagos.preprocessing.config import Config
from pelagos.preprocessing.errors import ConfigError

Pair = tuple[int, int]
Flags = tuple[bool, bool]
EVERYTHING = Context()
SATURATION = 0.25
REFERENCE_MASK = -200.0


@dataclass(frozen=True)
class Rules:
    """Where the networks of this file differ; the defaults are Pelagos's choice.

    Attributes:
        any_size: serve any grid: windows are clamped and shifted by the grid of the call, distances are in
            tokens whatever the window, pixels are padded to whole patches. Else (the reference) all is fixed by
            `image_size`, to which fields of other sizes are resampled by FFT, and back.
        boundaries: on axes that the call says are periodic, windows, padding and convolutions wrap around; on
            others the last convolution repeats edge values. Else (the reference) all padding is zeros.
        residual: "lead_time": the input of the same variable is added to the network's part, and that is
            multiplied by `growth(lead time)`, so that lead time 0 gives the input back; of variables that are
            not input the network's part is all. "input" (the reference's `learn_residual`): the input is
            added. "none": nothing is.
        initialization: see `initialize`.
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
        learn_residual: with the preset poseidon, whether the input is added to the output.
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
    learn_residual: bool = False
    checkpointing: bool = False

    def build(self, signature: Signature) -> "ScOT":
        """The network for these variables, with fresh weights.

        Raises:
            ConfigError: settings contradict each other or the signature.
        """
        if self.preset == "pelagos":
            return ScOT(signature, self, PELAGOS)
        # The reference adds the input only where it also conditions.
        adds_input = self.learn_residual and self.use_conditioning
        return ScOT(signature, self, replace(POSEIDON, residual="input" if adds_input else "none"))


class ScOT(nn.Module):
    """The network; see `ScOTConfig` and `Rules`.

    Attributes:
        signature: the variables and scalars that it has weights for.
        config: its sizes.
        rules: its behaviour.
        image_size: the side of its fields, None where it serves any grid.
        foreign: arguments of a network that was loaded from the reference, for the way back.
    """

    def __init__(self, signature: Signature, config: ScOTConfig, rules: Rules = PELAGOS) -> None:
        super().__init__()
        self.signature, self.config, self.rules = signature, config, rules
        self.foreign: Mapping[str, Any] = {}
        self.image_size = None if rules.any_size else _image_size(signature, config)
        _check(signature, config, rules)
        self._sizes = BlockSizes(
            num_conditions=len(condition_names(signature.scalars)) if config.use_conditioning else 0,
            mlp_ratio=config.mlp_ratio,
            qkv_bias=config.qkv_bias,
            bias_dim=config.position_bias_dim,
            eps=config.layer_norm_eps,
        )
        self.embeddings = PatchEmbedding(
            len(signature.inputs),
            config.embed_dim,
            config.patch_size,
            *self._norm,
            grid=self._grid(0) if config.use_absolute_embeddings else None,
        )
        levels = range(len(config.depths))
        self.encoder = Stages(self._encoder_stage(level) for level in levels)
        self.decoder = Stages(self._decoder_stage(level) for level in reversed(levels))
        self.residual_blocks = nn.ModuleList(nn.ModuleList(self._skip_blocks(level)) for level in levels)
        self.patch_recovery = PatchRecovery(config.embed_dim, len(signature.outputs), config.patch_size)
        initialize(self, rules.initialization, config.initializer_range)

    @property
    def _norm(self) -> tuple[int, float]:
        return self._sizes.num_conditions, self._sizes.eps

    def _dim(self, level: int) -> int:
        return int(self.config.embed_dim * 2**level)

    def _grid(self, level: int) -> Pair | None:
        if self.image_size is None:
            return None
        side = int(self.image_size // self.config.patch_size // 2**level)
        return side, side

    def _blocks(self, level: int, shifted: Iterator[bool]) -> list[Block]:
        hidden = float("-inf") if self.image_size is None else REFERENCE_MASK
        tilings = (Tiling(self.config.window_size, shift, self._grid(level), hidden) for shift in shifted)
        heads = self.config.num_heads[level]
        return [Block(self._dim(level), heads, tiling, self._sizes) for tiling in tilings]

    def _encoder_stage(self, level: int) -> EncoderStage:
        depth, last = self.config.depths[level], level == len(self.config.depths) - 1
        blocks = self._blocks(level, (i % 2 == 1 for i in range(depth)))
        downsample = None if last else PatchMerging(self._dim(level), *self._norm)
        return EncoderStage(blocks, downsample, checkpointing=self.config.checkpointing)

    def _decoder_stage(self, level: int) -> DecoderStage:
        # The reference builds these blocks in reverse, so that it is the last that is never shifted.
        blocks = self._blocks(level, (i % 2 == 1 for i in reversed(range(self.config.depths[level]))))
        upsample = PatchUnmerging(self._dim(level), *self._norm) if level else None
        return DecoderStage(blocks, upsample, checkpointing=self.config.checkpointing)

    def _skip_blocks(self, level: int) -> Iterator[nn.Module]:
        scale = LAYER_SCALE[self.rules.initialization]
        for _ in range(self.config.skip_connections[level]):
            if self.config.residual_model == "resnet":
                yield ResNetBlock(self._dim(level))
            else:
                yield ConvNeXtBlock(self._dim(level), *self._norm, layer_scale=scale)

    def named_axes(self) -> dict[str, tuple[Kind | None, ...]]:
        """For weights with slices of variables or conditions, what each axis runs over; for `adapt`."""
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
        size = (x_BCHW.shape[2], x_BCHW.shape[3])
        y_BCHW: Tensor = self.patch_recovery(
            tokens_BhwD,
            size if self.image_size is None else (self.image_size, self.image_size),
            chosen.outputs,
            periodic,
            "edge" if self.rules.boundaries else "zeros",
        )
        if self.rules.residual == "input":
            y_BCHW = add_input(y_BCHW, fields_BCHW, chosen.residual)
        if y_BCHW.shape[2:] != size:
            y_BCHW = fourier_resample(y_BCHW, size)
        if self.rules.residual == "lead_time":
            y_BCHW = add_input(y_BCHW, x_BCHW, chosen.residual, growth(lead_time_B))
        return y_BCHW

    def _fit(self, x_BCHW: Tensor, periodic: Flags) -> Tensor:
        height, width = x_BCHW.shape[2:]
        if self.image_size is None:
            patch = self.config.patch_size
            return pad(x_BCHW, (0, -height % patch), (0, -width % patch), periodic, "edge")
        own = (self.image_size, self.image_size)
        if height != width:
            raise ValueError(f"fields of {(height, width)} for a network of squares, built for {own}")
        return x_BCHW if (height, width) == own else fourier_resample(x_BCHW, own)

    def _transform(self, x_BhwD: Tensor, conditions_BK: Tensor, periodic: Flags) -> Tensor:
        skips = []
        for stage in self.encoder.layers:
            y_BhwD, x_BhwD = stage(x_BhwD, conditions_BK, periodic)
            skips.append(y_BhwD)
        for level, blocks in enumerate(self.residual_blocks):
            assert isinstance(blocks, nn.ModuleList)
            skips[level] = apply_blocks(
                blocks, skips[level], conditions_BK, periodic, checkpointing=self.config.checkpointing
            )
        x_BhwD = skips.pop()
        for stage in self.decoder.layers:
            finer = (skips or [x_BhwD])[-1].shape[1:3]
            x_BhwD = stage(x_BhwD, conditions_BK, periodic, finer)
            if skips:
                x_BhwD = x_BhwD + skips.pop()
        return x_BhwD


def growth(lead_time_B: Tensor) -> Tensor:
    """What the network's part is multiplied by: proportional to short lead times, 1 for long ones."""
    return torch.tanh(lead_time_B / SATURATION)


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
    if rules.residual == "lead_time" and config.learn_residual:
        raise ConfigError("learn_residual is for preset poseidon; preset pelagos always adds the input")
