"""Processes that share the rows of a sample compute the WXFormer that one computes, gradients included."""

from typing import Any

import pytest
import torch

from pelagos.models.context import Context, Signature, Sphere
from pelagos.models.networks.credit.fuxi import FuXiConfig
from pelagos.models.networks.credit.padded_network import PaddedNetwork
from pelagos.models.networks.credit.wxformer import WXFormerConfig
from pelagos.preprocessing.errors import ConfigError
from tests.models.row_threads import assert_network_is_shared

SIGNATURE = Signature(inputs=("u", "v"), outputs=("u", "v"), scalars=(), shape=(32, 32))
TINY = {
    "dims": (8, 8, 8, 16),
    "depths": (1, 1, 1, 1),
    "head_dim": 8,
    "local_window": (4, 2, 2, 1),
    "global_window": (4, 4, 2, 2),
    "kernels": ((2, 8), (2, 4), (2, 3), (2,)),
}


def network(dtype: torch.dtype = torch.float64, **changes: Any) -> PaddedNetwork:
    torch.manual_seed(0)
    built = WXFormerConfig.model_validate({**TINY, **changes}).build(SIGNATURE)
    return built.to(dtype)


def fields(height: int = 64, width: int = 32, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(
        2, 2, height, width, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    ).to(dtype)


def context(height: int, periodic: tuple[bool, bool] = (False, True)) -> Context:
    latitude = tuple(90 - 180 / height * (row + 0.5) for row in range(height))
    sphere = Sphere(latitude, tuple(11.25 * column for column in range(32)), (1, -1), whole=True)
    return Context(periodic=periodic, sphere=sphere)


@pytest.mark.parametrize("size", [2, 4])
def test_outputs_and_gradients_are_those_of_one_process(size: int) -> None:
    """With 4 processes long and short attention have stages with fewer rows of windows than processes."""
    assert_network_is_shared(network(), fields(), context(64), size)


@pytest.mark.parametrize("size", [2, 3])
def test_rows_need_not_be_divisible(size: int) -> None:
    assert_network_is_shared(network(), fields(53), context(53), size)


def test_single_precision_is_equal_to_rounding() -> None:
    assert_network_is_shared(
        network(torch.float32), fields(dtype=torch.float32), context(64), 2, tolerance=1e-5
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"decoder": "transposed", "checkpointing": True, "spectral_norm": False},
        {"padding": {"mode": "sphere", "lat": 8, "lon": 4}},
        {"padding": {"mode": "earth", "lat": 16}},
        {"padding": {"mode": "mirror", "lat": (3, 5)}},
        {"strides": (4, 2, 2, 2), "kernels": ((4, 16), (2,), (2,), (2,)), "padding": {"lat": 32}},
        {
            "patch": (2, 2),
            "strides": (1, 2, 2, 2),
            "kernels": ((1,), (2,), (2,), (2,)),
            "decoder": "transposed",
        },
        {"form": "credit", "padding": {"mode": "earth", "lat": 16, "lon": 32}},
    ],
    ids=["transposed", "sphere", "earth", "mirror", "interpolated", "patches", "credit"],
)
def test_variants_are_shared(changes: dict[str, Any]) -> None:
    assert_network_is_shared(network(**changes), fields(), context(64), 2)


@pytest.mark.parametrize("periodic", [(True, True), (False, False)])
def test_boundaries_are_those_of_the_call(periodic: tuple[bool, bool]) -> None:
    assert_network_is_shared(network(padding={"lat": 3}), fields(32), context(32, periodic), 2)


def test_what_cannot_be_shared_is_refused() -> None:
    with pytest.raises(ConfigError, match="64 rows with padding are 4 rows at the last stage, too few for 5"):
        network().shared_unit((64, 32), 5)
    with pytest.raises(ConfigError, match="dropout"):
        network(dropout=0.1).shared_unit((64, 32), 2)
    fuxi = FuXiConfig(dim=8, num_heads=2, groups=2, depth=2, window=2).build(SIGNATURE)
    with pytest.raises(ConfigError, match="fuxi"):
        fuxi.shared_unit((32, 32), 2)
