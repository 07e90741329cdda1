"""The optimiser's groups: who is decayed, and at which rate."""

import re
from collections.abc import Iterable

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from pelagos.models.context import Signature
from pelagos.models.layers.low_rank import add_adapters
from pelagos.models.layers.network_layers import layers_of
from pelagos.models.networks.credit.fuxi import FuXiConfig
from pelagos.models.networks.credit.wxformer import WXFormerConfig
from pelagos.models.networks.fourier.fno import FNOConfig
from pelagos.models.networks.fourier.sfno import SFNOConfig
from pelagos.models.networks.fourier.spherical_fno import SphericalFNOConfig
from pelagos.models.networks.network import NetworkConfig
from pelagos.models.networks.scot.scot import ScOT, ScOTConfig
from pelagos.models.networks.unet import UNetConfig
from pelagos.pipeline.training.optimizer import OptimizerConfig, ParameterGroup
from pelagos.preprocessing.errors import ConfigError

CHANNELS = ("density", "velocity_x", "velocity_y", "pressure")
PRETRAINING = OptimizerConfig(groups="poseidon", lr=1e-3, weight_decay=0.1)
FINETUNING = OptimizerConfig(groups="poseidon", lr=5e-5, lr_embedding=5e-4, lr_norm=5e-4, weight_decay=1e-6)
NORM = {f"{part}.{kind}" for part in ("weight", "bias") for kind in ("weight", "bias")}
BLOCKS, SKIPS = ("encoder.layers.N.blocks.N.", "decoder.layers.N.blocks.N."), "residual_blocks.N.N."
KERNELS = {
    "attention.self.logit_scale",
    "attention.self.query.weight",
    "attention.self.key.weight",
    "attention.self.value.weight",
    "attention.output.dense.weight",
    "intermediate.dense.weight",
    "output.dense.weight",
}
DECAYED = (
    {block + name for block in BLOCKS for name in KERNELS}
    | {"encoder.layers.N.downsample.reduction.weight"}
    | {"decoder.layers.N.upsample.upsample.weight", "decoder.layers.N.upsample.mixup.weight"}
    | {SKIPS + name for name in ("weight", "dwconv.weight", "pwconv1.weight", "pwconv2.weight")}
)
BIASES = {
    "attention.self.continuous_position_bias_mlp.N.weight",
    "attention.self.continuous_position_bias_mlp.N.bias",
    "attention.self.query.bias",
    "attention.self.value.bias",
    "attention.output.dense.bias",
    "intermediate.dense.bias",
    "output.dense.bias",
}
EXEMPT = {block + name for block in BLOCKS for name in BIASES} | {
    SKIPS + name for name in ("dwconv.bias", "pwconv1.bias", "pwconv2.bias")
}
NORMS = (
    {
        f"{block}{norm}.{name}"
        for block in BLOCKS
        for norm in ("layernorm_before", "layernorm_after")
        for name in NORM
    }
    | {f"encoder.layers.N.downsample.norm.{name}" for name in NORM}
    | {f"decoder.layers.N.upsample.norm.{name}" for name in NORM}
    | {f"{SKIPS}norm.{name}" for name in NORM}
)
READS_AND_WRITES = {
    "embeddings.patch_embeddings.projection.weight",
    "patch_recovery.projection.weight",
    "patch_recovery.mixup.weight",
}


def poseidon(**changes: object) -> ScOT:
    """Poseidon-T without memory for its weights."""
    with torch.device("meta"):
        config = ScOTConfig.model_validate({"preset": "poseidon", **changes})
        return config.build(Signature(CHANNELS, CHANNELS, shape=(128, 128)))


def kinds(groups: Iterable[ParameterGroup]) -> set[str]:
    """The names in groups, with numbers of layers as N."""
    return {re.sub(r"\b\d+\b", "N", name) for group in groups for name in group.parameters}


def count(group: ParameterGroup) -> int:
    return sum(parameter.numel() for parameter in group.parameters.values())


def test_poseidons_fine_tuning_has_four_groups_of_the_known_sizes() -> None:
    found = {(g.role, g.decay): (g.rate, count(g)) for g in FINETUNING.parameter_groups(poseidon())}
    assert found == {
        ("body", 1e-6): (5e-5, 20_431_272),
        ("body", 0.0): (5e-5, 283_584),
        ("norm", 0.0): (5e-4, 52_800),
        ("embedding", 1e-6): (5e-4, 6_788),
    }


def test_poseidons_fine_tuning_decays_by_name() -> None:
    groups = {(group.role, group.decay > 0): group for group in FINETUNING.parameter_groups(poseidon())}
    assert kinds([groups["body", True]]) == DECAYED
    assert kinds([groups["body", False]]) == EXEMPT
    assert kinds([groups["norm", False]]) == NORMS
    assert "embeddings.norm.weight.weight" in groups["embedding", True].parameters
    assert len(groups["embedding", True].parameters) == 9


def test_poseidons_pretraining_exempts_norms_and_whatever_is_called_bias() -> None:
    groups = list(PRETRAINING.parameter_groups(poseidon()))
    assert {group.rate for group in groups} == {1e-3}
    assert {group.decay for group in groups} == {0.0, 0.1}
    assert kinds(group for group in groups if group.decay) == DECAYED | READS_AND_WRITES
    embedding = {"embeddings.patch_embeddings.projection.bias", "patch_recovery.projection.bias"}
    embedding |= {f"embeddings.norm.{name}" for name in NORM}
    assert kinds(group for group in groups if not group.decay) == EXEMPT | NORMS | embedding


def test_norms_without_conditions_are_exempt_and_follow_the_body() -> None:
    network = poseidon(use_conditioning=False, residual_model="resnet")
    groups = {
        (group.role, group.decay > 0): group.parameters for group in FINETUNING.parameter_groups(network)
    }
    assert ("norm", False) not in groups
    assert "encoder.layers.0.blocks.0.layernorm_after.weight" in groups["body", False]
    # Of batch normalisation Poseidon's code knows nothing.
    batch = [name for name, m in network.named_modules() if isinstance(m, nn.BatchNorm2d)]
    assert batch
    assert all(f"{name}.weight" in groups["body", True] for name in batch)


def test_pelagos_decays_matrices_and_kernels_alone() -> None:
    groups = list(OptimizerConfig(lr_norm=1e-4).parameter_groups(poseidon()))
    scales = {f"{block}attention.self.logit_scale" for block in BLOCKS} | {f"{SKIPS}weight"}
    biases = {f"{block}attention.self.continuous_position_bias_mlp.N.weight" for block in BLOCKS}
    decayed = kinds(group for group in groups if group.decay)
    assert decayed == (DECAYED | READS_AND_WRITES | biases) - scales
    assert {group.rate for group in groups if group.role == "norm"} == {1e-4}


READERS_AND_WRITERS: dict[str, tuple[FNOConfig | UNetConfig, set[str]]] = {
    "fno": (FNOConfig(width=4, modes=(2, 2), num_layers=1), {"lifting", "projection"}),
    "unet": (UNetConfig(dims=(4, 8), depth=1), {"stem", "head"}),
}


@pytest.mark.parametrize("kind", READERS_AND_WRITERS)
def test_layers_that_read_and_write_variables_have_their_own_rate(kind: str) -> None:
    config, layers = READERS_AND_WRITERS[kind]
    network = config.build(Signature(CHANNELS, CHANNELS, shape=(8, 8)))
    for group in OptimizerConfig(lr=1e-3, lr_embedding=5e-3).parameter_groups(network):
        apart = {name.partition(".")[0] in layers for name in group.parameters}
        assert apart == {group.rate == 5e-3}


def test_rates_for_layers_that_are_not_known_are_refused() -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    with pytest.raises(
        ConfigError, match=r"lr_embedding: 0.005 is for networks that tell .* a Sequential does"
    ):
        OptimizerConfig(lr_embedding=5e-3).build(network)
    with pytest.raises(
        ConfigError, match=r"parts.recovery: a Sequential does not tell .* method layer_names"
    ):
        OptimizerConfig(parts={"recovery": "frozen"}).build(network)
    with pytest.raises(ConfigError, match=r"optimizer.layer_decay: a Sequential does not tell"):
        OptimizerConfig(layer_decay=0.5).build(network)
    with pytest.raises(ConfigError, match=r"lr_norm: a Sequential has no norms"):
        OptimizerConfig(lr_norm=1e-3).build(network)
    OptimizerConfig().build(network)


PARTS_OF: dict[str, NetworkConfig] = {
    "scot": ScOTConfig(embed_dim=8, depths=(1, 1), num_heads=(2, 2), skip_connections=(1, 0)),
    "poseidon": ScOTConfig(
        preset="poseidon", embed_dim=8, depths=(1, 1), num_heads=(2, 2), skip_connections=(1, 0)
    ),
    "fno": FNOConfig(width=4, modes=(2, 2), num_layers=2),
    "spherical_fno": SphericalFNOConfig(width=4, degrees=4, num_layers=2),
    "sfno": SFNOConfig(width=4, modes=(2, 2, 2), num_layers=2),
    "unet": UNetConfig(dims=(4, 8), depth=1),
    "fuxi": FuXiConfig(dim=8, depth=1, num_heads=2, window=2, groups=2),
    "wxformer": WXFormerConfig(
        dims=(8, 16, 32, 64),
        depths=(1, 1, 1, 1),
        head_dim=8,
        local_window=2,
        global_window=2,
        kernels=((2, 4), (2, 4), (2, 4), (2, 4)),
    ),
}


@pytest.mark.parametrize("kind", PARTS_OF)
def test_parts_of_every_network_have_rates_of_their_own_or_are_frozen(kind: str) -> None:
    with torch.device("meta"):
        network = PARTS_OF[kind].build(Signature(CHANNELS, CHANNELS, shape=(32, 32)))
    parts = {"embedding": 5e-3, "recovery": 4e-3, "last": 3e-3, "norm": 2e-3, "body": "frozen"}
    config = OptimizerConfig.model_validate({"parts": parts})
    groups = list(config.parameter_groups(network))
    assert {(g.role, g.rate) for g in groups} == {(k, 0 if v == "frozen" else v) for k, v in parts.items()}
    built = config.build(network)
    trained = {p for group in built.param_groups for p in group["params"]}
    assert trained == {p for g in groups if g.rate for p in g.parameters.values()}
    assert trained == {p for p in network.parameters() if p.requires_grad}
    assert {group["role"] for group in built.param_groups} == set(parts) - {"body"}


@pytest.mark.parametrize("kind", PARTS_OF)
def test_rates_fall_from_layer_to_layer_towards_the_input(kind: str) -> None:
    with torch.device("meta"):
        network = PARTS_OF[kind].build(Signature(CHANNELS, CHANNELS, shape=(32, 32)))
    layers = layers_of(network)
    assert layers is not None
    groups = list(OptimizerConfig(lr=1e-2, layer_decay=0.5).parameter_groups(network))
    for number, prefixes in enumerate(layers):
        rates = {g.rate for g in groups for name in g.parameters if name.startswith(prefixes)}
        assert rates == {1e-2 * 0.5 ** (len(layers) - 1 - number)}  # exact: halves


def test_weights_can_be_chosen_by_name_and_the_last_pattern_counts() -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    config = OptimizerConfig.model_validate(
        {"lr": 1e-3, "parts": {"body": 3e-3, "0.*": "frozen", "0.bias": 2e-3}}
    )
    rates = {name: group.rate for group in config.parameter_groups(network) for name in group.parameters}
    assert rates == {"0.weight": 0.0, "0.bias": 2e-3, "1.weight": 3e-3, "1.bias": 3e-3}
    assert {str(group).split(":")[0] for group in config.parameter_groups(network)} >= {"body, frozen"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"parts": {"encoder.*": "frozen"}},
            r"parts.encoder.\*: a Sequential has no such weights; parts are body",
        ),
        ({"parts": {"adapter": 1e-3}}, r"parts.adapter: .* has no such weights"),
        ({"parts": {"body": "frozen"}}, r"all weights are frozen"),
    ],
)
def test_parts_that_nothing_is_left_of_are_errors(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        OptimizerConfig.model_validate(values).build(nn.Sequential(nn.Linear(3, 4)))


def test_two_rates_for_the_same_weights_are_refused() -> None:
    with pytest.raises(
        ValidationError, match=r"lr_embedding and parts.recovery are rates of the same weights"
    ):
        OptimizerConfig.model_validate({"lr_embedding": 1e-3, "parts": {"recovery": 1e-4}})


def test_kernels_of_one_point_are_decayed_and_gains_of_that_shape_are_not() -> None:
    class Gain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gain = nn.Parameter(torch.ones(1, 4, 1, 1))

    network = nn.Sequential(nn.Conv2d(4, 4, 1), nn.Conv3d(4, 4, 1), nn.ConvTranspose2d(4, 4, 1), Gain())
    groups = {group.decay > 0: set(group.parameters) for group in OptimizerConfig().parameter_groups(network)}
    assert groups[True] == {"0.weight", "1.weight", "2.weight"}
    assert groups[False] == {"0.bias", "1.bias", "2.bias", "3.gain"}


def test_each_weight_is_in_one_group() -> None:
    network = ScOTConfig(embed_dim=12, depths=(1,), num_heads=(2,), skip_connections=(1,)).build(
        Signature(CHANNELS, CHANNELS, shape=(32, 32))
    )
    network.embeddings.requires_grad_(False)
    for config in (PRETRAINING, FINETUNING, OptimizerConfig()):
        groups = config.build(network).param_groups
        held = [parameter for group in groups for parameter in group["params"]]
        assert len(held) == len(set(held))
        assert set(held) == {p for p in network.parameters() if p.requires_grad}
        assert all(group["lr"] == group["peak"] for group in groups)


MATRICES = DECAYED - {
    *(f"{block}attention.self.logit_scale" for block in BLOCKS),
    *(f"{SKIPS}{name}" for name in ("weight", "dwconv.weight")),
}


def test_muon_takes_the_matrices_of_scots_body_and_changes_no_rate_or_decay() -> None:
    signature = Signature(CHANNELS, CHANNELS, shape=(32, 32))
    with torch.device("meta"):
        network = PARTS_OF["poseidon"].build(signature)
        placed = PARTS_OF["scot"].model_copy(update={"location_degrees": 3}).build(signature)
    adamw, muon = (
        list(PRETRAINING.model_copy(update={"matrices": kind}).parameter_groups(network))
        for kind in ("adamw", "muon")
    )
    assert kinds(group for group in muon if group.matrices) == MATRICES
    settings = [
        {name: (g.role, g.rate, g.decay) for g in groups for name in g.parameters} for groups in (adamw, muon)
    ]
    assert settings[0] == settings[1]
    assert type(PRETRAINING.build(network)) is torch.optim.AdamW
    assert [group.matrices for group in muon] == [str(group).endswith(" matrices, by Muon") for group in muon]
    others = [
        group for group in OptimizerConfig(matrices="muon").parameter_groups(placed) if not group.matrices
    ]
    assert any("location.layers.0.weight" in group.parameters for group in others)


LINEAR_LAYERS = {
    "unet": {"widen", "narrow"},
    "fuxi": {"qkv", "proj", "fc1", "fc2"},
    "wxformer": set[str](),
    "fno": set[str](),
    "spherical_fno": set[str](),
    "sfno": set[str](),
}


@pytest.mark.parametrize("kind", LINEAR_LAYERS)
def test_muon_takes_linear_layers_of_every_network_or_says_that_there_are_none(kind: str) -> None:
    with torch.device("meta"):
        network = PARTS_OF[kind].build(Signature(CHANNELS, CHANNELS, shape=(32, 32)))
    config = OptimizerConfig(matrices="muon")
    if not LINEAR_LAYERS[kind]:
        with pytest.raises(ConfigError, match=r"optimizer.matrices: muon .* trains none in its body"):
            config.build(network)
        return
    taken = [
        name for group in config.parameter_groups(network) if group.matrices for name in group.parameters
    ]
    assert {name.split(".")[-2] for name in taken} == LINEAR_LAYERS[kind]


def test_frozen_and_adapted_layers_are_not_for_muon() -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    config = OptimizerConfig.model_validate({"matrices": "muon", "parts": {"0.*": "frozen"}})
    assert [list(g.parameters) for g in config.parameter_groups(network) if g.matrices] == [["1.weight"]]
    add_adapters(network, ["*"], 1, 1)
    with pytest.raises(ConfigError, match=r"trains none in its body"):
        config.build(network)


def test_momentum_without_muon_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"leave it out, or set matrices: muon"):
        OptimizerConfig(momentum=0.9)


def test_poseidons_groups_are_for_scot() -> None:
    network = FNOConfig().build(Signature(CHANNELS, CHANNELS, shape=(32, 32)))
    with pytest.raises(ConfigError, match=r"optimizer.groups: poseidon .* is a FNO; take groups: pelagos"):
        PRETRAINING.build(network)
