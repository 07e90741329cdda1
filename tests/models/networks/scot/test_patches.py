"""Embedding and recovery are the convolutions whose weights they have; merging and unmerging know any grid."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from pelagos.models.networks.scot.patches import (
    PatchEmbedding,
    PatchMerging,
    PatchProjection,
    PatchRecovery,
    PatchUnmerging,
    select_slices,
)

CONDITIONS_BK = torch.zeros(2, 0)


def random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_all_slices_in_order_are_the_weight_itself() -> None:
    weight = random(3, 2)
    assert select_slices(weight, None, 0) is weight
    assert select_slices(weight, (0, 1, 2), 0) is weight


@pytest.mark.parametrize("positions", [(2, 0), (1,), (1, 1, 0)])
def test_slices_are_selected_along_any_axis(positions: tuple[int, ...]) -> None:
    weight = random(3, 4, 3)
    assert_close(select_slices(weight, positions, 0), weight[list(positions)], rtol=0, atol=0)
    assert_close(select_slices(weight, positions, 2), weight[..., list(positions)], rtol=0, atol=0)


@pytest.mark.parametrize("inputs", [None, (2, 0)])
def test_projection_is_a_strided_convolution(inputs: tuple[int, ...] | None) -> None:
    layer = PatchProjection(3, 5, 2).double()
    x_BCHW = random(2, 3, 6, 8)[:, : 3 if inputs is None else 2]
    weight = layer.projection.weight if inputs is None else layer.projection.weight[:, list(inputs)]
    expected = F.conv2d(x_BCHW, weight, layer.projection.bias, stride=2)
    assert_close(layer(x_BCHW, inputs).permute(0, 3, 1, 2), expected, rtol=0, atol=1e-13)


def test_tokens_are_normalised_whatever_the_number_of_variables() -> None:
    layer = PatchEmbedding(3, 64, 2, 0, 1e-9).double()
    for inputs in (None, (1,)):
        x_BhwD = layer(10 * random(2, 3, 6, 8)[:, : 1 if inputs else 3], CONDITIONS_BK, inputs)
        assert_close(
            x_BhwD.std(-1, correction=0), torch.ones(2, 3, 4, dtype=torch.float64), rtol=0, atol=1e-6
        )


def test_absolute_positions_are_added_where_the_grid_is_fixed() -> None:
    layer = PatchEmbedding(1, 4, 2, 0, 1e-5, grid=(2, 3)).double()
    free = PatchEmbedding(1, 4, 2, 0, 1e-5).double()
    state = {name: value for name, value in layer.state_dict().items() if name != "position_embeddings"}
    free.load_state_dict(state)
    positions = random(2, 3, 4)
    with torch.no_grad():
        layer.position_embeddings.copy_(positions.view(1, 6, 4))
        found, plain = (part(random(2, 1, 4, 6), CONDITIONS_BK, None) for part in (layer, free))
    assert_close(found - plain, positions.expand(2, 2, 3, 4), rtol=0, atol=1e-14)


@pytest.mark.parametrize("grid", [(4, 6), (5, 6), (3, 7), (1, 1)])
def test_merging_and_unmerging_come_back_to_the_grid(grid: tuple[int, int]) -> None:
    coarse = PatchMerging(4, 0, 1e-5).double()(random(2, *grid, 4), CONDITIONS_BK, (False, True))
    assert coarse.shape == (2, -(-grid[0] // 2), -(-grid[1] // 2), 8)
    assert PatchUnmerging(8, 0, 1e-5).double()(coarse, CONDITIONS_BK, grid).shape == (2, *grid, 4)


def test_merged_tokens_are_ordered_rows_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in Swin's code: (0, 0), (1, 0), (0, 1), (1, 1) of (row, column)."""
    layer = PatchMerging(1, 0, 1e-5).double()
    monkeypatch.setattr(layer.norm, "forward", lambda x, conditions_BK: x)
    with torch.no_grad():
        layer.reduction.weight.copy_(torch.tensor([[1.0, 10, 100, 1000], [0, 0, 0, 0]]))
        x_BhwD = torch.tensor([[1.0, 2], [3, 4]], dtype=torch.float64).view(1, 2, 2, 1)
        assert layer(x_BhwD, CONDITIONS_BK, (False, False)).flatten().tolist() == [1 + 30 + 200 + 4000, 0]


def test_merging_sees_the_other_side_of_a_periodic_axis() -> None:
    layer, x_BhwD = PatchMerging(4, 0, 1e-5).double(), random(2, 3, 4, 4)
    wrapped = torch.cat([x_BhwD, x_BhwD[:, :1]], 1)
    found = layer(x_BhwD, CONDITIONS_BK, (True, False))
    assert_close(found, layer(wrapped, CONDITIONS_BK, (False, False)), rtol=0, atol=0)


@pytest.mark.parametrize("outputs", [None, (2, 0)])
@pytest.mark.parametrize("periodic", [(False, False), (True, True)])
def test_recovery_is_a_transposed_convolution_and_a_smoothing_one(
    outputs: tuple[int, ...] | None, periodic: tuple[bool, bool]
) -> None:
    layer = PatchRecovery(4, 3, 2).double()
    chosen = [0, 1, 2] if outputs is None else list(outputs)
    x_BhwD = random(2, 3, 5, 4)
    found = layer(x_BhwD, (6, 10), outputs, periodic, "zeros")
    assert layer.projection.bias is not None
    y_BCHW = F.conv_transpose2d(
        x_BhwD.permute(0, 3, 1, 2),
        layer.projection.weight[:, chosen],
        layer.projection.bias[chosen],
        stride=2,
    )
    padded = F.pad(y_BCHW, (2, 2, 2, 2), "circular" if periodic[0] else "constant")
    assert_close(found, F.conv2d(padded, layer.mixup.weight[chosen][:, chosen]), rtol=0, atol=1e-13)


def test_recovered_fields_are_cropped_to_the_size_of_the_input() -> None:
    layer = PatchRecovery(4, 3, 4).double()
    assert layer(random(2, 3, 5, 4), (11, 17), None, (False, False), "edge").shape == (2, 3, 11, 17)
