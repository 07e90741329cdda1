"""Import and export of weights of miles-credit's WXFormer and FuXi.

Source of names, defaults and layouts: NCAR/miles-credit at 5e14b83c. Its WXFormer exists in two generations: the
published one doubles the grid by transposed convolutions, the newer one by pixel shuffles, and there the weights
of cross embeddings are one level deeper (`convs.0.1.weight`, not `convs.0.weight`). Both load.

Shapes: B batch, C channels, T frames, H rows, W columns.
"""

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal

import torch
from einops import rearrange
from pydantic import ConfigDict, Field
from torch import Tensor, nn

from pelagos.models.context import Signature
from pelagos.models.foreign_weights import Arguments, load_state, read_arguments
from pelagos.models.networks.credit.crossformer import CubeEmbedding, Decoder
from pelagos.models.networks.credit.earth_padding import PaddingConfig
from pelagos.models.networks.credit.fuxi import FuXiConfig
from pelagos.models.networks.credit.padded_network import PaddedNetwork
from pelagos.models.networks.credit.wxformer import PerStage, WXFormerConfig
from pelagos.preprocessing.config import Config
from pelagos.preprocessing.errors import ConfigError, DataError

StateDict = Mapping[str, Tensor]


class _PaddingArguments(Config):
    activate: bool
    mode: Literal["earth", "mirror"] = "earth"
    pad_lat: int | tuple[int, int] = 0
    pad_lon: int | tuple[int, int] = 0

    def translate(self) -> PaddingConfig:
        if not self.activate:
            return PaddingConfig()
        return PaddingConfig(mode=self.mode, lat=self.pad_lat, lon=self.pad_lon)


# Left out without a word, such a part would change every number that the network gives.
class _SwitchedOff(Config):
    """A part of the reference that Pelagos does not have: it may be described, but not switched on."""

    model_config = ConfigDict(extra="allow")

    activate: Literal[False] = False


class _CreditArguments(Config):
    """The arguments that both networks have."""

    type: str = ""
    image_height: int = 640
    image_width: int = 1280
    frames: int = Field(2, gt=0)
    channels: int = 4
    surface_channels: int = 7
    input_only_channels: int = 0
    output_only_channels: int = 0
    levels: int = 15
    use_spectral_norm: bool = True
    interp: bool = True
    padding_conf: _PaddingArguments | None = None
    post_conf: _SwitchedOff | None = None

    @property
    def num_inputs(self) -> int:
        """Channels of one input frame."""
        return self.channels * self.levels + self.surface_channels + self.input_only_channels

    @property
    def num_outputs(self) -> int:
        """Channels of one output frame."""
        return self.channels * self.levels + self.surface_channels + self.output_only_channels

    def padding(self) -> PaddingConfig:
        """The padding as a configuration of Pelagos."""
        return self.padding_conf.translate() if self.padding_conf else PaddingConfig()


class CrossFormerArguments(_CreditArguments):
    """The arguments of miles-credit's CrossFormer and their defaults."""

    type: Literal["", "crossformer", "wxformer", "wxformer_base"] = ""
    patch_height: int = 1
    patch_width: int = 1
    output_frames: int = Field(1, gt=0)
    input_only_channels: int = 3
    dim: tuple[int, int, int, int] = (64, 128, 256, 512)
    depth: int | PerStage = (2, 2, 8, 2)
    dim_head: int = 32
    frame_patch_size: int | None = Field(None, description="in published files, without effect")
    global_window_size: int | PerStage = (5, 5, 2, 1)
    local_window_size: int | PerStage = 10
    cross_embed_kernel_sizes: tuple[tuple[int, ...], ...] = ((4, 8, 16, 32), (2, 4), (2, 4), (2, 4))
    cross_embed_strides: int | PerStage = (4, 2, 2, 2)
    attn_dropout: float = 0
    ff_dropout: float = 0
    attention_type: None = None
    upsample_v_conv: Literal[False] = False
    upsample_with_ps: bool = True

    def translate(self, decoder: Decoder) -> WXFormerConfig:
        """The same network as a configuration of Pelagos.

        Raises:
            ConfigError: the reference has no such network.
        """
        if any(2 * narrow != wide for narrow, wide in zip(self.dim, self.dim[1:], strict=False)):
            raise ConfigError(
                f"dim is {self.dim}, but miles-credit's decoder needs it to double from stage to stage"
            )
        patch = (self.patch_height, self.patch_width)
        if patch != (1, 1) and (1 in patch or self.frames != 1):
            raise ConfigError(
                f"patches of {patch} with {self.frames} frames: "
                "miles-credit has patches with both sides above 1, and with 1 frame"
            )
        return WXFormerConfig(
            form="credit",
            dims=self.dim,
            depths=(self.depth,) * 4 if isinstance(self.depth, int) else self.depth,
            head_dim=self.dim_head,
            local_window=self.local_window_size,
            global_window=self.global_window_size,
            kernels=self.cross_embed_kernel_sizes,
            strides=(self.cross_embed_strides,) * 4
            if isinstance(self.cross_embed_strides, int)
            else self.cross_embed_strides,
            patch=patch,
            decoder=decoder,
            spectral_norm=self.use_spectral_norm,
            padding=self.padding(),
            interpolate=self.interp,
            attention_dropout=self.attn_dropout,
            dropout=self.ff_dropout,
        )


class FuXiArguments(_CreditArguments):
    """The arguments of miles-credit's Fuxi and their defaults; dropout has no effect and is kept for export."""

    type: Literal["", "fuxi"] = ""
    patch_height: int = 16
    patch_width: int = 16
    frame_patch_size: int = 2
    dim: int = 1536
    num_groups: int = 32
    num_heads: int = 8
    depth: int = 48
    window_size: int | tuple[int, int] = 7
    proj_drop: float = 0
    attn_drop: float = 0
    drop_path: float = 0
    # Literals, so that a file that asks for what is not here is refused by pydantic, with the key's name.
    use_noise: Literal[False] = False

    def translate(self) -> FuXiConfig:
        """The same network as a configuration of Pelagos.

        Raises:
            ConfigError: the reference has no such network.
        """
        # The reference has one token for all frames of a patch, and no place for a second one.
        if self.frame_patch_size != self.frames:
            raise ConfigError(
                f"frame_patch_size is {self.frame_patch_size}, but a patch must hold all {self.frames} frames"
            )
        return FuXiConfig(
            form="credit",
            dim=self.dim,
            depth=self.depth,
            num_heads=self.num_heads,
            window=self.window_size,
            patch=(self.patch_height, self.patch_width),
            frames=self.frames,
            groups=self.num_groups,
            spectral_norm=self.use_spectral_norm,
            padding=self.padding(),
            interpolate=self.interp,
        )


class CreditNetwork(nn.Module):
    """A network with miles-credit's call.

    Attributes:
        arguments: the reference's constructor arguments, as given.
        config: the same network as a configuration of Pelagos.
        network: the same network with Pelagos's call.
        num_frames: frames of the input and of the output.
        shape: (H, W) of the fields.
        nested: whether the reference's names of cross embeddings are the deeper ones.
        cube_embedding: weights that the reference allocates and never uses.
    """

    def __init__(
        self,
        arguments: Mapping[str, Any],
        shape: _CreditArguments,
        config: WXFormerConfig | FuXiConfig,
        network: PaddedNetwork,
        idle: nn.Module | None,
    ) -> None:
        super().__init__()
        self.arguments, self.config = dict(arguments), config
        self.nested = isinstance(config, WXFormerConfig) and config.decoder == "pixel_shuffle"
        self.num_frames = (shape.frames, getattr(shape, "output_frames", 1))
        self.shape = (shape.image_height, shape.image_width)
        self.network = network
        # Kept so that exported state dicts have all the names that the reference expects.
        self.cube_embedding = idle
        self._input = (shape.num_inputs, shape.frames, shape.image_height, shape.image_width)
        self._num_outputs = shape.num_outputs

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        """(B, C, T, H, W) to (B, C', T', H, W), all normalised as the weights were trained.

        Raises:
            DataError: channels, frames or grid are not those of the arguments.
        """
        if tuple(x_BCTHW.shape[1:]) != self._input:
            raise DataError(
                f"fields of (channels, frames, rows, columns) {tuple(x_BCTHW.shape[1:])}, "
                f"but the arguments say {self._input}"
            )
        # Frames vary fastest among the channels.
        x_BCHW = x_BCTHW.flatten(1, 2)
        y_BCHW: Tensor = self.network(x_BCHW, x_BCHW.new_zeros(len(x_BCHW)))
        return rearrange(y_BCHW, "b (c t) h w -> b c t h w", c=self._num_outputs)


def crossformer_config(arguments: Mapping[str, Any], *, decoder: Decoder | None = None) -> WXFormerConfig:
    """miles-credit's CrossFormer arguments as a configuration; without `decoder`, `type` decides on it.

    Raises:
        ConfigError: an argument is unknown or out of range, or nothing decides on the decoder.
    """
    read = _read_credit_arguments(CrossFormerArguments, arguments)
    return read.translate(decoder or _decoder_from_type(read.type))


def fuxi_config(arguments: Mapping[str, Any]) -> FuXiConfig:
    """miles-credit's Fuxi arguments as a configuration.

    Raises:
        ConfigError: an argument is unknown or out of range.
    """
    return _read_credit_arguments(FuXiArguments, arguments).translate()


def build_crossformer(arguments: Mapping[str, Any], decoder: Decoder | None = None) -> CreditNetwork:
    """An untrained CrossFormer with miles-credit's call; raises what `crossformer_config` does."""
    read = _read_credit_arguments(CrossFormerArguments, arguments)
    config = crossformer_config(arguments, decoder=decoder)
    signature = _signature(read.num_inputs * read.frames, read.num_outputs * read.output_frames)
    idle = None
    if config.patch == (1, 1):
        idle = CubeEmbedding(read.num_inputs * read.frames, read.dim[0], (read.frames, 1, 1))
    return CreditNetwork(arguments, read, config, config.build(signature), idle)


def build_fuxi(arguments: Mapping[str, Any]) -> CreditNetwork:
    """An untrained FuXi with miles-credit's call; raises what `fuxi_config` does."""
    read = _read_credit_arguments(FuXiArguments, arguments)
    signature = _signature(read.num_inputs * read.frames, read.num_outputs)
    config = read.translate()
    return CreditNetwork(arguments, read, config, config.build(signature), None)


def load_crossformer(arguments: Mapping[str, Any], state: StateDict) -> CreditNetwork:
    """miles-credit's CrossFormer of either generation in evaluation mode.

    Args:
        arguments: the reference's constructor arguments; lists stand for tuples.
        state: the reference's state dict.

    Raises:
        ConfigError: an argument is unknown, or the reference has no such network.
        DataError: names or shapes of the state do not fit the arguments.
    """
    # Only the pixel shuffle's last block is a sequence: names of weights tell the generation; `type` may be missing.
    decoder: Decoder = "pixel_shuffle" if any(k.startswith("up_block4.0.") for k in state) else "transposed"
    with torch.device("meta"):
        network = build_crossformer(arguments, decoder)
    network.nested = any(map(_NESTED.match, state))
    return _load(network, {_NESTED.sub(r"\1.", key): value for key, value in state.items()})


def load_fuxi(arguments: Mapping[str, Any], state: StateDict) -> CreditNetwork:
    """miles-credit's FuXi in evaluation mode; for arguments and errors see `load_crossformer`."""
    with torch.device("meta"):
        network = build_fuxi(arguments)
    return _load(network, state)


def save_crossformer(network: CreditNetwork) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The arguments and state dict that miles-credit's CrossFormer loads, in the generation that was loaded."""
    arguments, state = save_fuxi(network)
    if network.nested:
        # Pelagos has the names of the published generation, whichever was loaded.
        state = {_CONVS.sub(r"\1.1.", key): value for key, value in state.items()}
    return arguments, state


def save_fuxi(network: CreditNetwork) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The arguments and state dict that miles-credit's Fuxi loads."""
    state = network.network.body.state_dict()
    if network.cube_embedding is not None:
        state |= network.cube_embedding.state_dict(prefix=_IDLE)
    return network.arguments, dict(state)


def as_credit_network(
    network: PaddedNetwork,
    config: WXFormerConfig | FuXiConfig,
    shape: tuple[int, int],
    counts: tuple[int, int, int],
    arguments: Mapping[str, Any] = MappingProxyType({}),
) -> CreditNetwork:
    """A network of the form credit with miles-credit's call, for export.

    Args:
        network: as the configuration builds it.
        config: of the network.
        shape: (H, W) of the fields.
        counts: of channels that are input and output, input only, and output only; of one frame.
        arguments: as they were read, where the network was imported; else they are derived from the configuration.

    Raises:
        ConfigError: the reference has no such network.
    """
    if config.form != "credit":
        raise ConfigError(
            f"miles-credit's code has no {config.kind} of form {config.form}; it has those of form credit"
        )
    given = dict(arguments) or _arguments_of(config, shape, counts)
    build = build_fuxi if isinstance(config, FuXiConfig) else _built_as(config)
    with torch.device("meta"):
        wrapped = build(given)
    same_config = wrapped.config.model_copy(update={"checkpointing": config.checkpointing}) == config
    if not same_config or _sizes(wrapped.network) != _sizes(network):
        raise ConfigError(f"miles-credit's code has no network with {config}, or not with these channels")
    wrapped.network = network
    if wrapped.cube_embedding is not None:
        # The reference's strict loading expects them; it never uses them, and an import drops them.
        wrapped.cube_embedding.to_empty(device="cpu")
        for weight in wrapped.cube_embedding.parameters():
            torch.nn.init.zeros_(weight)
    return wrapped.eval()


def _sizes(network: PaddedNetwork) -> dict[str, torch.Size]:
    return {name: weight.shape for name, weight in network.body.state_dict().items()}


def _built_as(config: WXFormerConfig) -> Callable[[Mapping[str, Any]], CreditNetwork]:
    return lambda arguments: build_crossformer(arguments, config.decoder)


def _arguments_of(
    config: WXFormerConfig | FuXiConfig, shape: tuple[int, int], counts: tuple[int, int, int]
) -> dict[str, Any]:
    """The constructor arguments of a configuration of the form credit."""
    both, input_only, output_only = counts
    padding = config.padding
    if padding.mode == "boundary" and (padding.lat, padding.lon) != (0, 0):
        raise ConfigError("miles-credit's code pads as `earth` or `mirror`, not as `boundary`")
    if padding.mode == "sphere":
        raise ConfigError(
            "miles-credit's code leaves vectors their signs beyond a pole: mode `earth`, not `sphere`"
        )
    conf = {"activate": True, "mode": padding.mode, "pad_lat": padding.lat, "pad_lon": padding.lon}
    common = {
        "image_height": shape[0],
        "image_width": shape[1],
        # How channels divide into levels and surface is a matter of its data, not of its networks.
        "channels": both,
        "levels": 1,
        "surface_channels": 0,
        "input_only_channels": input_only,
        "output_only_channels": output_only,
        "use_spectral_norm": config.spectral_norm,
        "interp": config.interpolate,
        "padding_conf": None if padding.mode == "boundary" else conf,
        "patch_height": config.patch[0],
        "patch_width": config.patch[1],
    }
    if isinstance(config, FuXiConfig):
        return common | {
            "type": "fuxi",
            "frames": config.frames,
            "frame_patch_size": config.frames,
            "dim": config.dim,
            "num_groups": config.groups,
            "num_heads": config.num_heads,
            "depth": config.depth,
            "window_size": config.window,
        }
    return common | {
        "type": "wxformer" if config.decoder == "pixel_shuffle" else "crossformer",
        "frames": 1,
        "dim": config.dims,
        "depth": config.depths,
        "dim_head": config.head_dim,
        "local_window_size": config.local_window,
        "global_window_size": config.global_window,
        "cross_embed_kernel_sizes": config.kernels,
        "cross_embed_strides": config.strides,
        "attn_dropout": config.attention_dropout,
        "ff_dropout": config.dropout,
    }


SOURCE = "miles-credit"
_IDLE = "cube_embedding."
_CONVS = re.compile(r"^(layers\.\d\.0\.convs\.\d+)\.")
_NESTED = re.compile(r"^(layers\.\d\.0\.convs\.\d+)\.1\.")


def _read_credit_arguments(kind: type[Arguments], arguments: Mapping[str, Any]) -> Arguments:
    if {"pad_lat", "pad_lon"} & arguments.keys():
        # They had an effect when the paper's weights were trained; today's reference ignores them.
        raise ConfigError(
            "miles-credit's arguments have pad_lat or pad_lon at the top level; padding is given as "
            "padding_conf: {activate, mode, pad_lat, pad_lon}"
        )
    return read_arguments(kind, arguments, SOURCE)


def _load(network: CreditNetwork, state: StateDict) -> CreditNetwork:
    if network.cube_embedding is not None:
        idle = {key.removeprefix(_IDLE): value for key, value in state.items() if key.startswith(_IDLE)}
        load_state(network.cube_embedding, idle, f"{SOURCE}'s cube_embedding")
        state = {key: value for key, value in state.items() if not key.startswith(_IDLE)}
    load_state(network.network.body, state, SOURCE)
    return network.eval()


def _decoder_from_type(kind: str) -> Decoder:
    if not kind:
        raise ConfigError("the arguments have no type: crossformer (transposed) or wxformer (pixel shuffle)?")
    return "transposed" if kind == "crossformer" else "pixel_shuffle"


# The reference's files name no variables.
def _signature(num_inputs: int, num_outputs: int) -> Signature:
    return Signature(
        inputs=tuple(f"input_{i}" for i in range(num_inputs)),
        outputs=tuple(f"output_{i}" for i in range(num_outputs)),
    )
