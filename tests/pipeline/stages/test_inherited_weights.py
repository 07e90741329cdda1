"""What a network takes over from another of its kind, and what begins afresh because it is asked for."""

import pytest
import torch
from torch import nn

from pelagos.models.context import Signature
from pelagos.models.networks.credit.fuxi import FuXiConfig
from pelagos.models.networks.credit.wxformer import WXFormerConfig
from pelagos.models.networks.fourier.fno import FNOConfig
from pelagos.models.networks.fourier.sfno import SFNOConfig
from pelagos.models.networks.fourier.spherical_fno import SphericalFNOConfig
from pelagos.models.networks.network import ExternalConfig, NetworkConfig
from pelagos.models.networks.scot.scot import ScOTConfig
from pelagos.models.networks.unet import UNetConfig
from pelagos.pipeline.runs.model_folder import Model
from pelagos.pipeline.stages.inherited_weights import FreshParts, NewSlices, inherit
from pelagos.pipeline.training.optimizer import OptimizerConfig
from pelagos.pipeline.training.parameter_parts import ParameterParts
from pelagos.preprocessing.errors import ConfigError, DataError

SIGNATURE = Signature(("density", "velocity_x"), ("density", "velocity_x"), shape=(32, 32))
SCOT = ScOTConfig(embed_dim=8, depths=(1, 1), num_heads=(2, 2), skip_connections=(1, 0))
NETWORKS: dict[str, NetworkConfig] = {
    "scot": SCOT,
    # Its blocks on skip connections keep running means.
    "resnet": SCOT.model_copy(update={"residual_model": "resnet"}),
    "fno": FNOConfig(width=4, modes=(2, 2), num_layers=2),
    "spherical_fno": SphericalFNOConfig(width=4, degrees=4, num_layers=2),
    "sfno": SFNOConfig(width=4, modes=(2, 2, 2), num_layers=2),
    "unet": UNetConfig(dims=(4, 8), depth=1),
    "fuxi": FuXiConfig(dim=8, depth=1, num_heads=2, window=2, groups=2),
    "wxformer": WXFormerConfig(
        dims=(8, 8, 8, 8),
        depths=(1, 0, 0, 0),
        head_dim=8,
        local_window=2,
        global_window=2,
        kernels=((2, 4), (2, 4), (2, 4), (2, 4)),
    ),
}


def network(config: NetworkConfig, seed: int) -> nn.Module:
    """A network whose weights and buffers are all its own: constants of initialisations are moved, too."""
    torch.manual_seed(seed)
    built = config.build(SIGNATURE)
    with torch.no_grad():
        for tensor in built.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(0.01 * torch.randn_like(tensor))
    return built


@pytest.mark.parametrize("part", ["embedding", "recovery", "body"])
@pytest.mark.parametrize("kind", NETWORKS)
def test_a_part_of_any_network_begins_afresh_and_all_else_is_taken_over(kind: str, part: str) -> None:
    config = NETWORKS[kind]
    old, new = network(config, 0), network(config, 1)
    own = {name: tensor.clone() for name, tensor in new.state_dict().items()}
    fresh = FreshParts.of(new, (part,))
    assert inherit(Model(config, old, SIGNATURE, {}), new, SIGNATURE, fresh) is None
    parts, known = ParameterParts(new).parts, old.state_dict()
    found = {name: torch.equal(tensor, own[name]) for name, tensor in new.state_dict().items()}
    assert all(torch.equal(new.state_dict()[name], known[name]) for name in found if name not in fresh.names)
    assert {name for name in parts if found[name]} == {name for name in parts if parts[name] == part}
    # Running means and singular vectors go with their weights, one by one.
    beside = {name.rpartition(".")[0] for name in fresh.names & set(parts)}
    for name in set(found) - set(parts):
        assert torch.equal(
            new.state_dict()[name], (own if name.rpartition(".")[0] in beside else known)[name]
        )


def test_another_recovery_takes_new_variables_too() -> None:
    old = network(SCOT, 0)
    more = Signature(("tracer", *SIGNATURE.inputs), SIGNATURE.outputs, shape=SIGNATURE.shape)
    config = SCOT.model_copy(update={"upsampling": "bilinear"})
    new = config.build(more)
    own = {name: tensor.clone() for name, tensor in new.state_dict().items()}
    fresh = FreshParts.of(new, ("recovery",))
    adaptation = inherit(Model(SCOT, old, SIGNATURE, {}), new, more, fresh)
    assert adaptation is not None
    assert adaptation.fresh == ("input tracer", "output density", "output velocity_x")
    assert not any(name.startswith("patch_recovery") for name in adaptation.weights)
    name = "embeddings.patch_embeddings.projection.weight"
    assert torch.equal(new.state_dict()[name][:, 1:], old.state_dict()[name])
    assert torch.equal(
        new.state_dict()["patch_recovery.projection.weight"], own["patch_recovery.projection.weight"]
    )


def test_a_frozen_weight_is_refused_for_what_is_new_in_it() -> None:
    more = Signature(("tracer", *SIGNATURE.inputs), SIGNATURE.outputs, ("viscosity",), shape=SIGNATURE.shape)
    new = SCOT.build(more)
    adaptation = inherit(Model(SCOT, network(SCOT, 0), SIGNATURE, {}), new, more, FreshParts())
    assert adaptation is not None
    slices = NewSlices.of(new, adaptation)
    for part, owner in (("embedding", "input tracer"), ("norm", "condition .*viscosity")):
        groups = list(OptimizerConfig(parts={part: "frozen"}).parameter_groups(new))
        with pytest.raises(ConfigError, match=f"^{owner} is new .* optimizer.parts freezes it"):
            slices.check_trained(groups)
    slices.check_trained(OptimizerConfig(parts={"body": "frozen"}).parameter_groups(new))


def test_patterns_of_names_choose_weights_where_a_network_does_not_tell_its_layers() -> None:
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
    fresh = FreshParts.of(net, ("1.*", "2.bias"))
    assert fresh.names == {"2.bias", *(name for name in net.state_dict() if name.startswith("1."))}
    assert str(fresh) == "1.*, 2.bias (asked for)"


class Foreign(nn.Conv2d):
    """A network from elsewhere, which has never heard of slices."""

    def __init__(self, signature: Signature) -> None:
        super().__init__(len(signature.inputs), len(signature.outputs), 1)
        self.signature = signature


def test_a_network_that_does_not_tell_its_slices_takes_no_new_variables() -> None:
    config = ExternalConfig(path="somewhere:Foreign")
    more = Signature((*SIGNATURE.inputs, "tracer"), SIGNATURE.outputs)
    with pytest.raises(DataError, match=r"a Foreign does not tell .* cannot take tracer .* named_axes\(\)"):
        inherit(Model(config, Foreign(SIGNATURE), SIGNATURE, {}), Foreign(more), more, FreshParts())
