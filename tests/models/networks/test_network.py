"""The union of networks: every kind is buildable by name, serves real grids, and has joined the contract."""

from importlib import import_module
from typing import Any, get_args

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import nn
from torch.testing import assert_close

from pelagos.models.context import Context, Signature
from pelagos.models.networks.network import NetworkConfig
from tests.models.contracts import NetworkContract

UNION = get_args(get_args(NetworkConfig)[0])
KINDS = [cls.model_fields["kind"].default for cls in UNION]
BUILT_IN = [kind for kind in KINDS if kind != "external"]
READER: TypeAdapter[NetworkConfig] = TypeAdapter(NetworkConfig)
WEATHER = Signature(("t2m", "wind", "orography", "solar"), ("t2m", "wind", "rain"), ("viscosity",))


class Persistence(nn.Module):
    """The least that can stand behind the kind `external`."""

    def __init__(self, signature: Signature, factor: float = 1.0) -> None:
        super().__init__()
        self.signature, self.factor = signature, factor

    def forward(self, x_BCHW: torch.Tensor, lead_time_B: torch.Tensor, context: Context) -> torch.Tensor:
        return self.factor * x_BCHW[:, : len(self.signature.outputs)]


def called(signature: Signature) -> nn.Module:
    """A function that a stranger's configuration might name."""
    pytest.fail(f"called with {signature}")


def test_the_union_has_the_networks_that_configurations_may_name() -> None:
    assert set(BUILT_IN) == {"scot", "fno", "spherical_fno", "unet", "wxformer", "fuxi", "sfno"}


@pytest.mark.parametrize("kind", BUILT_IN)
def test_every_kind_has_joined_the_contract(kind: str) -> None:
    folder = {
        "wxformer": "credit.",
        "fuxi": "credit.",
        "fno": "fourier.",
        "sfno": "fourier.",
        "spherical_fno": "fourier.",
        "scot": "scot.",
    }
    module = import_module(f"tests.models.networks.{folder.get(kind, '')}test_{kind}")
    own = [cls for cls in vars(module).values() if isinstance(cls, type) and issubclass(cls, NetworkContract)]
    assert [cls for cls in own if cls is not NetworkContract and cls.conditioned]


@pytest.mark.parametrize("kind", BUILT_IN)
def test_defaults_are_a_small_network_that_serves_the_demos_grid_and_weather_beside_it(kind: str) -> None:
    torch.manual_seed(0)
    net = READER.validate_python({"kind": kind}).build(WEATHER).eval()
    assert sum(p.numel() for p in net.parameters()) < 25e6
    for size, periodic in (((64, 64), (True, True)), ((21, 30), (False, True)), ((9, 14), (False, False))):
        x_BCHW = torch.randn(1, 4, *size)
        with torch.no_grad():
            y_BCHW = net(x_BCHW, torch.ones(1), Context(periodic=periodic, scalars=torch.ones(1, 1)))
        assert y_BCHW.shape == (1, 3, *size)
        assert torch.isfinite(y_BCHW).all()


@pytest.mark.parametrize("kind", BUILT_IN)
def test_configurations_come_back_from_json(kind: str) -> None:
    config = READER.validate_python({"kind": kind})
    assert READER.validate_python(config.model_dump(mode="json")) == config


def test_an_external_network_is_called_with_the_signature_and_its_arguments() -> None:
    args: dict[str, Any] = {"factor": 3.0}
    config = READER.validate_python({"kind": "external", "path": f"{__name__}:Persistence", "args": args})
    x_BCHW = torch.randn(1, 4, 5, 6)
    assert_close(config.build(WEATHER)(x_BCHW, torch.ones(1), Context()), 3 * x_BCHW[:, :3])


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nowhere.at:All", "cannot be imported"),
        ("pathlib:Nothing", "cannot be imported"),
        ("pathlib:Path", "is <class .*Path'>, not a subclass of torch.nn.Module"),
        (f"{__name__}:called", "is <function called .*>, not a subclass of torch.nn.Module"),
    ],
)
def test_an_external_path_that_leads_to_no_network_is_an_error(path: str, message: str) -> None:
    config = READER.validate_python({"kind": "external", "path": path})
    with pytest.raises(ValueError, match=message):
        config.build(WEATHER)


def test_an_unknown_kind_is_told_which_there_are() -> None:
    with pytest.raises(ValidationError, match=r"'wxformer', 'fuxi', 'sfno'"):
        READER.validate_python({"kind": "crossformer"})
