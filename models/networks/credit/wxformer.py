"""WXFormer, CREDIT's CrossFormer U-Net for weather, in its published form and in Pelagos's own.

Source: Schreck et al., Community Research Earth Digital Intelligence Twin, npj Climate and Atmospheric
Science 2025 (arXiv:2411.07814).
"""

from math import lcm, prod
from typing import Literal, Self

from pydantic import Field, model_validator

from pelagos.models.channel_fields import ChannelFields
from pelagos.models.context import Signature
from pelagos.models.networks.credit.crossformer import NUM_STAGES, CrossFormer, Decoder
from pelagos.models.networks.credit.earth_padding import PaddingConfig
from pelagos.models.networks.credit.padded_network import PaddedNetwork
from pelagos.models.networks.credit.spectral_norm import add_spectral_norms
from pelagos.preprocessing.config import Config
from pelagos.preprocessing.errors import ConfigError

PerStage = tuple[int, int, int, int]
"""One number for each of the four stages."""


class WXFormerConfig(Config):
    """Settings of WXFormer; the defaults are a small network for grids of multiples of 32, to which others are padded.

    Attributes:
        form: `pelagos`: any grid, padded to what the windows need; lead time and scalars are constant channels;
            predicts the change. `credit`, for published weights (see `PositionBias`): the padded grid must fit;
            one time step; predicts the next state.
        dims: channels of the four stages.
        depths: transformer blocks of the stages.
        head_dim: channels of an attention head.
        local_window: cells along a side of the windows of short attention, one number or one for each stage.
        global_window: cells along a side of the windows of long attention, one number or one for each stage.
        kernels: kernel sizes of each stage's cross embedding.
        strides: the factor by which each stage coarsens the grid.
        patch: (rows, columns) of the patches that are the first stage's cells.
        decoder: how the grid is doubled again.
        spectral_norm: whether every layer's weight is divided by its largest singular value.
        padding: how fields are extended beyond their grid.
        interpolate: whether an output whose size differs from the input's is interpolated to it.
        attention_dropout: share of attention weights set to zero in training.
        dropout: share of activations of the feed-forward layers set to zero in training.
        checkpointing: whether transformer blocks are recomputed in the backward pass instead of stored.
    """

    kind: Literal["wxformer"] = "wxformer"
    form: Literal["pelagos", "credit"] = "pelagos"
    dims: PerStage = (32, 64, 128, 256)
    depths: PerStage = (2, 2, 4, 2)
    head_dim: int = Field(32, gt=0)
    local_window: int | PerStage = (4, 4, 4, 2)
    global_window: int | PerStage = (8, 4, 4, 2)
    kernels: tuple[tuple[int, ...], ...] = ((4, 8, 16, 32), (2, 4), (2, 4), (2, 4))
    strides: PerStage = (2, 2, 2, 2)
    patch: tuple[int, int] = (1, 1)
    decoder: Decoder = "pixel_shuffle"
    spectral_norm: bool = True
    padding: PaddingConfig = PaddingConfig()
    interpolate: bool = True
    attention_dropout: float = Field(0, ge=0, lt=1)
    dropout: float = Field(0, ge=0, lt=1)
    checkpointing: bool = False

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.kernels) != NUM_STAGES:
            raise ConfigError(f"kernels are given for {len(self.kernels)} stages, but there are {NUM_STAGES}")
        # Skip connections join stages whose grids differ by 2.
        if self.strides[1:] != (2, 2, 2):
            raise ConfigError(f"strides are {self.strides}, but the decoder needs 2 in the last three stages")
        if any(self.strides[0] * side % 2 for side in self.patch):
            raise ConfigError(
                f"patches of {self.patch} cells and a first stride of {self.strides[0]} coarsen the grid by "
                "an odd number, but the decoder's last step doubles it"
            )
        return self

    def build(self, signature: Signature) -> PaddedNetwork:
        """The network for these variables.

        Raises:
            ConfigError: stages, kernels and heads contradict each other, or the form has no use for scalars.
        """
        own = self.form == "pelagos"
        padding = self.padding.build(self._multiples() if own else (1, 1))
        return PaddedNetwork(
            signature,
            self._body(signature),
            padding,
            # The grid is coarsened by patch and first stride, then by 2 three times, and doubled four times.
            scale=(self.strides[0] * self.patch[0] // 2, self.strides[0] * self.patch[1] // 2),
            predicts_change=own,
            interpolate=self.interpolate,
        )

    def _body(self, signature: Signature) -> CrossFormer:
        own = self.form == "pelagos"
        conditions = ChannelFields(signature).num_conditions if own else 0
        body = CrossFormer(
            len(signature.inputs) + conditions,
            len(signature.outputs),
            dims=self.dims,
            depths=self.depths,
            head_dim=self.head_dim,
            local_windows=_per_stage(self.local_window),
            global_windows=_per_stage(self.global_window),
            kernels=self.kernels,
            strides=self.strides,
            patch=self.patch,
            decoder=self.decoder,
            # Published weights have groups of one channel, which cancel the bias of the convolution before them.
            groups=self.dims[0] // 4 if own else self.dims[0],
            published=not own,
            dropouts=(self.attention_dropout, self.dropout),
            checkpointing=self.checkpointing,
        )
        if self.spectral_norm:
            add_spectral_norms(body)
        return body

    def _multiples(self) -> tuple[int, int]:
        """What rows and columns must be multiples of, so that windows divide the grid of each stage."""
        windows = zip(_per_stage(self.local_window), _per_stage(self.global_window), strict=True)
        # A window of w cells at a stage spans w times the product of the strides up to it.
        cells = lcm(*(prod(self.strides[: i + 1]) * lcm(*pair) for i, pair in enumerate(windows)))
        return cells * self.patch[0], cells * self.patch[1]


def _per_stage(value: int | PerStage) -> PerStage:
    return (value,) * 4 if isinstance(value, int) else value
