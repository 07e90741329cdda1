"""ScOT, a U-shaped Swin transformer conditioned on lead time: Poseidon's up to rounding, and Pelagos's own.

Source: Herde et al., Poseidon (2024, arXiv:2405.19101), and its code, whose names of weights are kept.
`ScOTVariant` lists what Pelagos changes, one switch each.

Shapes: B batch, C channels, H rows and W columns of pixels, h rows and w columns of tokens, D channels of a token,
S scalars, K conditions.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from pelagos.models.call_selection import select_variables
from pelagos.models.context import ALL_VARIABLES, Context, Signature, Sphere
from pelagos.models.layers.conditioning import (
    Conditions,
    condition_names,
    conditional_axes,
    encode_conditions,
    of_module,
    shared_conditions,
)
from pelagos.models.layers.device_constants import constant
from pelagos.models.layers.fourier_resample import fourier_resample
from pelagos.models.layers.lead_time import lead_time_factor
from pelagos.models.layers.named_axis import Axes
from pelagos.models.layers.network_layers import LayerNames
from pelagos.models.layers.padding import NOT_PERIODIC, GridSize, Periodic, Widths, pad
from pelagos.models.layers.pole_padding import over_poles
from pelagos.models.layers.row_layout import RowLayout
from pelagos.models.layers.row_padding import Beyond, padded_rows
from pelagos.models.layers.sample_scale import SampleScale
from pelagos.models.layers.spherical_encoding import Degrees, SphericalEncoding
from pelagos.models.networks.scot.attention import Tiling
from pelagos.models.networks.scot.initialization import LAYER_SCALE, initialize
from pelagos.models.networks.scot.patches import (
    PatchEmbedding,
    PatchMerging,
    PatchRecovery,
    PatchUnmerging,
    halved,
    select_slices,
)
from pelagos.models.networks.scot.skips import ConvNeXtSkipBlock, ResNetSkipBlock
from pelagos.models.networks.scot.stages import (
    BlockSizes,
    DecoderStage,
    EncoderStage,
    ScOTBlock,
    Stages,
    apply_blocks,
)
from pelagos.models.networks.scot.upsampling import InterpolatedRecovery, Upsampling, icnr_
from pelagos.preprocessing.config import Config
from pelagos.preprocessing.errors import ConfigError

POSEIDON_MASK = -200.0
# Not -100 as in SwinV2: with logit scales near 100 masked pairs would win, and outputs of standard deviation 3.6
# differ by 6.2.


@dataclass(frozen=True)
class ScOTVariant:
    """How the networks of this module differ; the defaults are Pelagos's.

    Attributes:
        any_size: serve any grid: windows are clamped and shifted according to the grid of the call, offsets are in
            tokens whatever the window, pixels are padded to whole patches. Otherwise (the reference) all is fixed
            by `image_size`, to which fields of other sizes are resampled by FFT, and back.
        boundaries: windows, padding and convolutions wrap around axes that are periodic in the call; on others
            the last convolution repeats edge values. Otherwise (the reference) all padding is zeros.
        residual: "lead_time": output = input + `lead_time_factor` * change for variables that are also input, so
            that lead time 0 returns the input; other variables are the network's output itself. "input" (the
            reference's `learn_residual`): output = input + change. "none": no input is added.
        initialization: see `initialize`.
    """

    any_size: bool = True
    boundaries: bool = True
    residual: Literal["lead_time", "input", "none"] = "lead_time"
    initialization: Literal["pelagos", "poseidon"] = "pelagos"


PELAGOS = ScOTVariant()
POSEIDON = ScOTVariant(any_size=False, boundaries=False, residual="none", initialization="poseidon")


class ScOTConfig(Config):
    """Settings of a `ScOT`; the defaults are the sizes of Poseidon-T in Pelagos's variant.

    Attributes:
        preset: the `ScOTVariant`, Pelagos's or Poseidon's.
        embed_dim: channels of a token on the finest grid; they double from level to level.
        depths: transformer blocks of each level, the same in encoder and decoder.
        num_heads: attention heads of each level.
        skip_connections: blocks on the skip connection of each level; the last is the bottleneck.
        window_size: the longest side of a window, in tokens.
        patch_size: the side of a patch, in pixels.
        mlp_ratio: hidden channels of a block's MLP, in units of its channels.
        residual_model: the kind of blocks on skip connections.
        use_conditioning: whether lead time and scalars condition the normalisations.
        qkv_bias: whether queries and values have a bias.
        position_bias_dim: hidden channels of the position biases; small networks gain from fewer.
        use_absolute_embeddings: whether tokens have learned positions, in a network of fixed size.
        layer_norm_eps: added to variances by the normalisations.
        initializer_range: the `deviation` of `initialize`.
        image_size: the side of the square fields of a network of fixed size; by default that of the signature.
        upsampling: how tokens become pixels: `transposed`, a patch of its own from each token, smoothed by a 5 x 5
            convolution; `pixel_shuffle`, the same from weights that begin each patch constant (ICNR); `nearest` and
            `bilinear`, interpolation of the tokens and one 5 x 5 convolution, without seams between patches.
        patch_overlap: pixels by which a token also sees its neighbours' patches, on each side.
        per_sample: whether fields that evolve enter relative to their mean and deviation in the sample, and changes are
            scaled back: forecasts of shifted or amplified fields are shifted or amplified, too.
        learn_residual: with the preset poseidon, whether the input is added to the output.
        pole_patches: rows of patches that are added beyond each pole, from the opposite meridian, on grids that reach
            both poles and go round; components of vectors change their sign there.
        location_degrees: degrees of the spherical harmonics by which tokens know where on the Earth they are (10 is a
            good number), on grids of latitudes and longitudes; 0 for no location.
        checkpointing: whether blocks are recomputed in the backward pass instead of stored.
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
    upsampling: Upsampling = "transposed"
    patch_overlap: int = Field(0, ge=0)
    per_sample: bool = False
    learn_residual: bool = False
    pole_patches: int = Field(0, ge=0)
    location_degrees: int = Field(0, ge=0)
    checkpointing: bool = False

    def build(self, signature: Signature) -> "ScOT":
        """The network for these variables, with fresh weights.

        Raises:
            ConfigError: settings contradict each other or the signature.
        """
        if self.preset == "pelagos":
            return ScOT(signature, self, PELAGOS)
        # The reference adds the input only if it also conditions on lead time.
        adds_input = self.learn_residual and self.use_conditioning
        return ScOT(signature, self, replace(POSEIDON, residual="input" if adds_input else "none"))


class ScOT(nn.Module):
    """The scalable Operator Transformer; see `ScOTConfig` and `ScOTVariant`.

    Attributes:
        signature: the variables and scalars that the network has weights for.
        config: the sizes.
        variant: the behaviour.
        image_size: the side of the fields; None if any grid is served.
        foreign: the reference's arguments of imported weights, for their export.
    """

    def __init__(self, signature: Signature, config: ScOTConfig, variant: ScOTVariant = PELAGOS) -> None:
        super().__init__()
        self.signature, self.config, self.variant = signature, config, variant
        self.foreign: Mapping[str, Any] = {}
        self.image_size = None if variant.any_size else _image_size(signature, config)
        _check(signature, config, variant)
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
            overlap=config.patch_overlap,
        )
        levels = range(len(config.depths))
        self.encoder = Stages(self._encoder_stage(level) for level in levels)
        self.decoder = Stages(self._decoder_stage(level) for level in reversed(levels))
        self.residual_blocks = nn.ModuleList(nn.ModuleList(self._skip_blocks(level)) for level in levels)
        self.patch_recovery = _recovery(config, len(signature.outputs))
        initialize(self, variant.initialization, config.initializer_range)
        if config.upsampling == "pixel_shuffle":
            weight = self.patch_recovery.projection.weight
            assert isinstance(weight, nn.Parameter)
            icnr_(weight, float(weight.detach().std()))
        # Last: it has an initialisation of its own, and other weights are drawn as without it.
        self.location = (
            SphericalEncoding(config.location_degrees, config.embed_dim) if config.location_degrees else None
        )

    @property
    def _norm(self) -> tuple[int, float]:
        return self._sizes.num_conditions, self._sizes.eps

    def _dim(self, level: int) -> int:
        return int(self.config.embed_dim * 2**level)

    def _grid(self, level: int) -> GridSize | None:
        if self.image_size is None:
            return None
        side = int(self.image_size // self.config.patch_size // 2**level)
        return side, side

    def _blocks(self, level: int, shifted: Iterator[bool]) -> list[ScOTBlock]:
        mask_value = float("-inf") if self.image_size is None else POSEIDON_MASK
        tilings = (Tiling(self.config.window_size, shift, self._grid(level), mask_value) for shift in shifted)
        heads = self.config.num_heads[level]
        return [ScOTBlock(self._dim(level), heads, tiling, self._sizes) for tiling in tilings]

    def _encoder_stage(self, level: int) -> EncoderStage:
        depth, last = self.config.depths[level], level == len(self.config.depths) - 1
        blocks = self._blocks(level, (i % 2 == 1 for i in range(depth)))
        # The last level is the bottleneck.
        downsample = None if last else PatchMerging(self._dim(level), *self._norm)
        return EncoderStage(blocks, downsample, checkpointing=self.config.checkpointing)

    def _decoder_stage(self, level: int) -> DecoderStage:
        # The reference builds these blocks in reverse: the last one, not the first, is never shifted.
        blocks = self._blocks(level, (i % 2 == 1 for i in reversed(range(self.config.depths[level]))))
        upsample = PatchUnmerging(self._dim(level), *self._norm) if level else None
        return DecoderStage(blocks, upsample, checkpointing=self.config.checkpointing)

    def _skip_blocks(self, level: int) -> Iterator[nn.Module]:
        scale = LAYER_SCALE[self.variant.initialization]
        for _ in range(self.config.skip_connections[level]):
            if self.config.residual_model == "resnet":
                yield ResNetSkipBlock(self._dim(level))
            else:
                yield ConvNeXtSkipBlock(self._dim(level), *self._norm, layer_scale=scale)

    def _conditioned(self) -> list[nn.Module]:
        """The modules that take conditions."""
        stages = [*self.encoder.layers, *self.decoder.layers]
        within = [part.conditioned() for part in stages if isinstance(part, EncoderStage | DecoderStage)]
        skips = [block for blocks in self.residual_blocks for block in blocks.children()]
        return [self.embeddings, *(module for modules in within for module in modules), *skips]

    def named_axes(self) -> dict[str, Axes]:
        """What each axis runs over, for weights with slices of variables or conditions; see `adapt`."""
        axes: dict[str, Axes] = {
            "embeddings.patch_embeddings.projection.weight": (None, "input", None, None),
            "patch_recovery.projection.bias": ("output",),
        }
        if isinstance(self.patch_recovery, PatchRecovery):
            axes["patch_recovery.projection.weight"] = (None, "output", None, None)
            axes["patch_recovery.mixup.weight"] = ("output", "output", None, None)
        else:
            axes["patch_recovery.projection.weight"] = ("output", None, None, None)
        return {**axes, **conditional_axes(self)}

    def layer_names(self) -> LayerNames:
        """See `Layered`: a stage is a layer, a skip connection belongs to the stage of the decoder that takes it."""
        levels = range(len(self.config.depths))
        decoder = ((f"decoder.layers.{n}.", f"residual_blocks.{levels[-1] - n}.") for n in levels)
        encoder = ((f"encoder.layers.{level}.",) for level in levels)
        reading = ("embeddings.",) if self.location is None else ("embeddings.", "location.")
        return reading, *encoder, *decoder, ("patch_recovery.",)

    def forward(
        self, x_BCHW: Tensor, lead_time_B: Tensor | None = None, context: Context = ALL_VARIABLES
    ) -> Tensor:
        """Fields (B, C, H, W) and lead times (B,) to (B, C', H, W).

        Lead times may be omitted if the network is not conditioned.

        Raises:
            ValueError: channels, lead times, scalars or the size do not fit the network.
        """
        if lead_time_B is None:
            if self.config.use_conditioning:
                raise ValueError("the network is conditioned on lead times, but none were given")
            lead_time_B = x_BCHW.new_zeros(len(x_BCHW))
        call = select_variables(self.signature, x_BCHW, lead_time_B, context)
        periodic = context.periodic if self.variant.boundaries else NOT_PERIODIC
        rows = context.rows
        added = self._rows_beyond_poles(rows.count(x_BCHW.shape[2]), context.sphere)
        names = tuple(self.signature.inputs[channel] for channel in call.inputs)
        scale = SampleScale.of(x_BCHW, names, call.residual) if self.config.per_sample else None
        scaled_BCHW = x_BCHW if scale is None else scale.normalised(x_BCHW)
        fields_BCHW, tokens, pixels = self._network_fields(scaled_BCHW, added, context, periodic)
        conditions = shared_conditions(
            self._conditioned(), encode_conditions(lead_time_B, call.scalars, self.signature.scalars)
        )
        tokens_BhwD = self.embeddings(
            fields_BCHW,
            of_module(conditions, self.embeddings),
            call.inputs,
            periodic,
            tokens.scaled(self.config.patch_size),
        )
        if self.location is not None and context.sphere is not None:
            latitudes, longitudes = _token_places(context.sphere, added, self.config.patch_size)
            mine = latitudes[tokens.own.start : tokens.own.stop] if tokens.shared else latitudes
            tokens_BhwD = tokens_BhwD + self.location(mine, longitudes)
        tokens_BhwD = self._encode_decode(tokens_BhwD, conditions, periodic, tokens)
        size = (x_BCHW.shape[2], x_BCHW.shape[3])
        padded = (len(pixels.own) if pixels.shared else size[0] + sum(added), size[1])
        y_BCHW: Tensor = self.patch_recovery(
            tokens_BhwD,
            padded if self.image_size is None or pixels.shared else (self.image_size, self.image_size),
            call.outputs,
            periodic,
            "edge" if self.variant.boundaries else "zeros",
            (tokens, pixels),
        )
        if any(added) and not pixels.shared:
            y_BCHW = y_BCHW[:, :, added[0] : added[0] + size[0]]
        if self.variant.residual == "input":
            y_BCHW = add_input(y_BCHW, fields_BCHW, call.residual)
        y_BCHW = pixels.moved(y_BCHW, 2, rows, added[0])
        # As in the reference the input is added on the network's own grid, before resampling.
        if y_BCHW.shape[2:] != size:
            y_BCHW = fourier_resample(y_BCHW, size)
        if scale is not None:
            y_BCHW = scale.changes(y_BCHW, call.residual)
        if self.variant.residual == "lead_time":
            y_BCHW = add_input(y_BCHW, x_BCHW, call.residual, lead_time_factor(lead_time_B))
        return y_BCHW

    def _rows_beyond_poles(self, height: int, sphere: Sphere | None) -> Widths:
        """How many rows are added before the first and after the last: whole patches, and what the last one lacks."""
        if sphere is None or not sphere.whole or not self.config.pole_patches:
            return 0, 0
        patch = self.config.patch_size
        rows = patch * self.config.pole_patches
        return rows, rows + -height % patch

    def shared_unit(self, size: GridSize, processes: int) -> int:
        """See RowSharing."""
        patch, depth = self.config.patch_size, len(self.config.depths)
        if self.config.residual_model == "resnet":
            raise ConfigError("batch norms (residual_model: resnet) see the rows of one process alone")
        if self.config.per_sample:
            raise ConfigError("network.per_sample needs all rows of a sample")
        if self.image_size not in (None, size[0]):
            raise ConfigError(
                f"fields of {size[0]} rows are resampled to {self.image_size}, which needs all rows"
            )
        coarsest = -(-size[0] // (patch * 2 ** (depth - 1)))
        if coarsest < processes:
            raise ConfigError(
                f"{size[0]} rows are {coarsest} rows of tokens at level {depth} of {depth}, too few for {processes}"
                f" processes: at most {coarsest} can share them"
            )
        return patch

    def _network_fields(
        self, x_BCHW: Tensor, added: Widths, context: Context, periodic: Periodic
    ) -> tuple[Tensor, RowLayout, RowLayout]:
        """The fields in whole patches, and the layouts of tokens and of the network's pixels."""
        rows = context.rows
        if not rows.shared:
            fields_BCHW = self._resize_input(_beyond_poles(x_BCHW, added, context.sphere), periodic)
            return fields_BCHW, rows, rows
        patch, height = self.config.patch_size, rows.starts[-1]
        tokens = rows.of(-(-(height + sum(added)) // patch))
        to = tokens.scaled(patch)
        if any(added):
            assert context.sphere is not None
            on_pole, signs = context.sphere.on_pole, context.sphere.signs
            fields_BCHW = padded_rows(x_BCHW, rows, to, added, "poles", on_pole=on_pole, signs=signs)
        else:
            beyond: Beyond = "wrap" if periodic[0] else "edge"
            fields_BCHW = padded_rows(x_BCHW, rows, to, (0, -height % patch), beyond)
        fields_BCHW = pad(fields_BCHW, (0, 0), (0, -x_BCHW.shape[3] % patch), periodic, "edge")
        return fields_BCHW, tokens, tokens.scaled(patch, height + sum(added))

    def _resize_input(self, x_BCHW: Tensor, periodic: Periodic) -> Tensor:
        height, width = x_BCHW.shape[2:]
        if self.image_size is None:
            patch = self.config.patch_size
            # Edge values: zeros would be a step at the boundary.
            return pad(x_BCHW, (0, -height % patch), (0, -width % patch), periodic, "edge")
        own = (self.image_size, self.image_size)
        if height != width:
            raise ValueError(f"fields of {(height, width)} for a network of square fields, built for {own}")
        return x_BCHW if (height, width) == own else fourier_resample(x_BCHW, own)

    def _encode_decode(
        self, x_BhwD: Tensor, conditions: Conditions, periodic: Periodic, layout: RowLayout
    ) -> Tensor:
        layouts, skips = [layout], []
        for _ in self.config.depths[1:]:
            layouts.append(halved(layouts[-1]))
        for own, stage in zip(layouts, self.encoder.layers, strict=True):
            y_BhwD, x_BhwD = stage(x_BhwD, conditions, periodic, own)
            skips.append(y_BhwD)
        for level, blocks in enumerate(self.residual_blocks):
            assert isinstance(blocks, nn.ModuleList)
            skips[level] = apply_blocks(
                blocks,
                skips[level],
                conditions,
                periodic,
                layouts[level],
                checkpointing=self.config.checkpointing,
            )
        x_BhwD = skips.pop()
        for level, stage in zip(reversed(range(len(layouts))), self.decoder.layers, strict=True):
            # Odd sizes were padded on the way down: the skip connection knows the grid to come back to.
            finer = (skips or [x_BhwD])[-1].shape[1:3]
            x_BhwD = stage(x_BhwD, conditions, periodic, finer, (layouts[level], layouts[max(level - 1, 0)]))
            if skips:
                x_BhwD = x_BhwD + skips.pop()
        return x_BhwD


def _recovery(config: ScOTConfig, num_outputs: int) -> PatchRecovery | InterpolatedRecovery:
    if config.upsampling in ("nearest", "bilinear"):
        return InterpolatedRecovery(config.embed_dim, num_outputs, config.patch_size, config.upsampling)
    return PatchRecovery(config.embed_dim, num_outputs, config.patch_size)


def add_input(
    y_BCHW: Tensor, x_BCHW: Tensor, residual: tuple[int, ...], factor_B: Tensor | None = None
) -> Tensor:
    """(B, C', H, W): input + factor * y for outputs that are also input (`residual` >= 0), y for others."""
    # -1 stands for no input; clamped to 0 it only serves as an index, and the value is discarded.
    known_C = constant(tuple(channel >= 0 for channel in residual), y_BCHW.device)[:, None, None]
    base_BCHW = select_slices(x_BCHW, tuple(max(channel, 0) for channel in residual), 1)
    if factor_B is not None:
        y_BCHW = y_BCHW * torch.where(known_C, factor_B[:, None, None, None], 1)
    return y_BCHW + torch.where(known_C, base_BCHW, 0)


def _beyond_poles(x_BCHW: Tensor, added: Widths, sphere: Sphere | None) -> Tensor:
    if sphere is None or not any(added):
        return x_BCHW
    return over_poles(x_BCHW, added, on_pole=sphere.on_pole, signs=sphere.signs)


def _token_places(sphere: Sphere, added: Widths, patch: int) -> tuple[Degrees, Degrees]:
    """Latitudes and longitudes of the centres of patches, those beyond the poles and beyond the last column too."""
    rows, columns = _continued(sphere.latitude, added), _continued(sphere.longitude, (0, 0))
    return _centres(rows, patch), _centres(columns, patch)


def _continued(values: Degrees, added: Widths) -> Degrees:
    """The values with evenly spaced ones before and after: beyond a pole, latitudes grow on."""
    first, last = (values[1] - values[0], values[-1] - values[-2]) if len(values) > 1 else (0.0, 0.0)
    before = tuple(values[0] - first * step for step in range(added[0], 0, -1))
    return (*before, *values, *(values[-1] + last * step for step in range(1, added[1] + 1)))


def _centres(values: Degrees, patch: int) -> Degrees:
    values = _continued(values, (0, -len(values) % patch))
    return tuple(sum(values[start : start + patch]) / patch for start in range(0, len(values), patch))


def _image_size(signature: Signature, config: ScOTConfig) -> int:
    size = config.image_size or (signature.shape[0] if signature.shape else None)
    if size is None:
        raise ConfigError("preset poseidon needs image_size, or a signature with the shape of the grid")
    if size % config.patch_size:
        raise ConfigError(f"image_size {size} is not a multiple of patch_size {config.patch_size}")
    return size


def _check(signature: Signature, config: ScOTConfig, variant: ScOTVariant) -> None:
    lengths = {name: len(getattr(config, name)) for name in ("depths", "num_heads", "skip_connections")}
    if len(set(lengths.values())) > 1:
        raise ConfigError(f"depths, num_heads and skip_connections differ in length: {lengths}")
    if signature.scalars and not config.use_conditioning:
        raise ConfigError(
            f"use_conditioning is false, so the scalars {', '.join(signature.scalars)} would have no effect"
        )
    if variant.any_size and (config.use_absolute_embeddings or config.image_size):
        raise ConfigError(
            "image_size and use_absolute_embeddings are for networks of fixed size: preset poseidon"
        )
    if not variant.any_size and (config.pole_patches or config.location_degrees):
        raise ConfigError("pole_patches and location_degrees are for preset pelagos")
    if variant.residual != "lead_time" and config.per_sample:
        raise ConfigError("per_sample is for preset pelagos, which predicts changes")
    if variant.residual == "lead_time" and config.learn_residual:
        raise ConfigError("learn_residual is for preset poseidon; preset pelagos always adds the input")
