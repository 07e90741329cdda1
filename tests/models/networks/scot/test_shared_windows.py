"""Processes that share the rows of a sample compute the scOT that one computes, gradients included."""

from typing import Any

import pytest
import torch

from pelagos.models.context import Context, Signature, Sphere
from pelagos.models.networks.scot.scot import ScOT, ScOTConfig
from pelagos.preprocessing.errors import ConfigError
from tests.models.row_threads import assert_network_is_shared

SIGNATURE = Signature(inputs=("u", "v"), outputs=("u", "v"), scalars=("viscosity",), shape=(16, 16))
TINY = {
    "embed_dim": 8,
    "depths": (2, 2),
    "num_heads": (2, 2),
    "skip_connections": (1, 0),
    "window_size": 4,
    "patch_size": 2,
    "position_bias_dim": 8,
}


def network(dtype: torch.dtype = torch.float64, **changes: Any) -> ScOT:
    torch.manual_seed(0)
    built = ScOTConfig.model_validate({**TINY, **changes}).build(SIGNATURE)
    return built.to(dtype)


def fields(height: int = 16, width: int = 16, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(
        2, 2, height, width, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    ).to(dtype)


def context(height: int = 16, width: int = 16, **changes: Any) -> Context:
    return Context(scalars=torch.tensor([[0.1], [0.2]], dtype=torch.float64), **changes)


def sphere(height: int, width: int) -> Sphere:
    step = 180 / height
    latitude = tuple(90 - step / 2 - step * row for row in range(height))
    return Sphere(latitude, tuple(360 / width * column for column in range(width)), (1, -1), whole=True)


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("periodic", [(False, False), (True, True)])
def test_outputs_and_gradients_are_those_of_one_process(size: int, periodic: tuple[bool, bool]) -> None:
    """With 4 processes the first level has fewer rows of windows than processes."""
    assert_network_is_shared(network(), fields(), context(periodic=periodic), size)


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("periodic", [(False, False), (True, False)])
def test_rows_need_not_be_divisible(size: int, periodic: tuple[bool, bool]) -> None:
    """Neither by patches, nor windows, nor processes: 27 rows are 14, then 7 rows of tokens."""
    assert_network_is_shared(network(), fields(27, 14), context(periodic=periodic), size)


def test_rows_may_be_dealt_in_any_way() -> None:
    assert_network_is_shared(network(), fields(), context(), 3, starts=(0, 3, 12, 16))


def test_single_precision_is_equal_to_rounding() -> None:
    one = network(torch.float32)
    assert_network_is_shared(
        one, fields(dtype=torch.float32), context(periodic=(True, False)), 2, tolerance=1e-5
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"upsampling": "bilinear", "patch_overlap": 1},
        {"upsampling": "nearest", "checkpointing": True},
        {"pole_patches": 2, "location_degrees": 3},
        {"preset": "poseidon", "use_absolute_embeddings": True, "learn_residual": True},
        {"depths": (1, 1, 2), "num_heads": (2, 2, 2), "skip_connections": (1, 1, 0)},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_variants_are_shared(changes: dict[str, Any]) -> None:
    one = network(**changes)
    assert_network_is_shared(one, fields(), context(sphere=sphere(16, 16), periodic=(False, True)), 2)


def test_a_row_on_the_pole_is_not_repeated_beyond_it() -> None:
    latitude = tuple(90 - 12 * row for row in range(16))
    on_pole = Sphere(latitude, sphere(16, 16).longitude, (1, -1), whole=True)
    assert_network_is_shared(network(pole_patches=1), fields(), context(sphere=on_pole), 3)


@pytest.mark.parametrize(
    ("changes", "size", "processes", "message"),
    [
        ({}, (16, 16), 5, "4 rows of tokens at level 2 of 2, too few for 5"),
        ({"residual_model": "resnet"}, (16, 16), 2, "batch norms"),
        ({"preset": "poseidon"}, (32, 32), 2, "resampled to 16"),
    ],
)
def test_what_cannot_be_shared_is_refused(
    changes: dict[str, Any], size: tuple[int, int], processes: int, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        network(**changes).shared_unit(size, processes)
