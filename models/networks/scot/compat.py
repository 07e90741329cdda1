"""Import and export of weights of Poseidon's scOT.

Names of weights are the reference's own; only the description of a network is translated.

Source: camlab-ethz/poseidon at b8fa28f, class ScOTConfig.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from pelagos.models.context import Signature
from pelagos.models.foreign_weights import load_state, read_arguments
from pelagos.models.networks.scot.scot import POSEIDON, ScOT, ScOTConfig
from pelagos.preprocessing.config import Config
from pelagos.preprocessing.errors import ConfigError

SOURCE = "Poseidon's scOT"


class ScOTArguments(Config):
    """The reference's arguments; those of loss and dropout have no effect and are only kept for export."""

    image_size: int
    patch_size: int = 4
    num_channels: int
    num_out_channels: int
    embed_dim: int
    depths: tuple[int, ...]
    num_heads: tuple[int, ...]
    skip_connections: tuple[int, ...]
    window_size: int
    mlp_ratio: float = 4.0
    qkv_bias: bool = True
    hidden_act: Literal["gelu"] = "gelu"
    use_absolute_embeddings: bool = False
    residual_model: Literal["convnext", "resnet"] = "convnext"
    use_conditioning: bool = False
    # The defaults of the reference's class, not of ScOTConfig: a published file leaves out what has them.
    learn_residual: bool = False
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-5
    pretrained_window_sizes: tuple[Literal[0], ...] = ()
    # Of the loss and of training: read, so that files are not refused, kept for export, and without effect.
    p: int = 1
    channel_slice_list_normalized_loss: tuple[int, ...] | None = None
    hidden_dropout_prob: float = 0.0
    attention_probs_dropout_prob: float = 0.0
    drop_path_rate: float = 0.0

    def config(self) -> ScOTConfig:
        """The same sizes in Pelagos's terms."""
        shared = set(ScOTArguments.model_fields) & set(ScOTConfig.model_fields)
        return ScOTConfig(preset="poseidon", **self.model_dump(include=shared))

    def signature(self) -> Signature:
        """The signature of variables named `channel_0`, `channel_1` and so on."""
        inputs, outputs = (
            tuple(f"channel_{i}" for i in range(count))
            for count in (self.num_channels, self.num_out_channels)
        )
        return Signature(inputs, outputs, shape=(self.image_size, self.image_size))


def scot_arguments(published: Mapping[str, Any]) -> dict[str, Any]:
    """The reference's arguments among the many entries of a published `config.json`."""
    return {name: published[name] for name in ScOTArguments.model_fields if name in published}


def load_scot(arguments: Mapping[str, Any], state: Mapping[str, Tensor]) -> ScOT:
    """The network of the reference's arguments and weights, in evaluation mode.

    `net(pixel_values, time)` is the reference's call; without conditioning the time may be omitted.

    Raises:
        ConfigError: an argument is unknown or has an unsupported value.
        DataError: names or shapes of weights contradict the arguments, or a weight is not finite.
    """
    known = read_arguments(ScOTArguments, arguments, SOURCE)
    # No memory and no random numbers for weights that are about to be replaced.
    with torch.device("meta"):
        net = known.config().build(known.signature())
    load_state(net, state, SOURCE)
    net.foreign = dict(arguments)
    return net.eval()


def save_scot(net: ScOT) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The reference's arguments and state dict for a network with the preset poseidon.

    Raises:
        ConfigError: the reference has no such network.
    """
    variant, config = net.variant, net.config
    if (
        replace(variant, residual="none", initialization="poseidon") != POSEIDON
        or variant.residual == "lead_time"
    ):
        raise ConfigError(f"Poseidon's code has no network with {variant}; it has those with preset poseidon")
    if net.signature.scalars or config.position_bias_dim != 512:
        raise ConfigError(
            f"scalars are {net.signature.scalars} and position_bias_dim is {config.position_bias_dim}, but "
            "Poseidon's code has no scalars, and position biases of 512 hidden channels only"
        )
    if config.upsampling not in ("transposed", "pixel_shuffle") or config.patch_overlap:
        raise ConfigError(
            f"upsampling is {config.upsampling} and patch_overlap {config.patch_overlap}, but Poseidon's code has"
            " transposed convolutions of patches that do not overlap only"
        )
    arguments = ScOTArguments(
        image_size=net.image_size,
        num_channels=len(net.signature.inputs),
        num_out_channels=len(net.signature.outputs),
        learn_residual=variant.residual == "input",
        **config.model_dump(include=set(ScOTArguments.model_fields) - {"image_size", "learn_residual"}),
    )
    # Arguments as they were read take precedence: they may hold dropout and the loss, which have no effect here.
    exported = arguments.model_dump(mode="json", exclude={"pretrained_window_sizes"})
    return {**exported, **net.foreign}, dict(net.state_dict())
