"""Processes that share the rows of a field compute what one computes of them all, gradients included."""

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from pelagos.models.layers.padding import pad
from pelagos.models.layers.row_layout import WHOLE, RowLayout, dealt_rows, regrouped
from tests.models import row_threads

Layer = Callable[[RowLayout, Tensor], Tensor]
"""What is done to own rows (B, h, w, D)."""


def field(rows: int) -> Tensor:
    generator = torch.Generator().manual_seed(rows)
    return torch.randn(2, rows, 3, 4, generator=generator, dtype=torch.float64)


def shared(size: int, rows: int, layer: Layer, weight: Tensor) -> tuple[Tensor, Tensor]:
    """The results of all processes, one behind the other, and the gradient of what they sum with a weight."""

    def work(layout: RowLayout) -> tuple[Tensor, Tensor]:
        layout = layout.of(rows)
        x = field(rows)[:, layout.own].requires_grad_()
        out = layer(layout, x)
        # Weighed by the place of the result in the whole one.
        lengths = layout.stacked(torch.tensor(out.shape[1])).tolist()
        start = sum(lengths[: layout.processes.rank])
        (out * weight[:, start : start + out.shape[1]]).sum().backward()
        assert x.grad is not None
        return out.detach(), x.grad

    outs, grads = zip(*row_threads.together(size, work), strict=True)
    return torch.cat(outs, 1), torch.cat(grads, 1)


def assert_equal_to_one(size: int, rows: int, layer: Layer, expected: Callable[[Tensor], Tensor]) -> None:
    x = field(rows).requires_grad_()
    out = expected(x)
    weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (out * weight).sum().backward()
    assert x.grad is not None
    found, grad = shared(size, rows, layer, weight)
    torch.testing.assert_close(found, out.detach(), rtol=0, atol=0)
    torch.testing.assert_close(grad, x.grad, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("wraps", [False, True])
@pytest.mark.parametrize("edge", [False, True])
@pytest.mark.parametrize(("before", "after"), [(3, 3), (0, 2), (9, 1)])
def test_margins_are_the_rows_around_even_beyond_neighbours(
    wraps: bool, edge: bool, before: int, after: int
) -> None:
    rows = 7  # of which processes have 2, 2 and 3: margins reach over several

    def expected(x: Tensor) -> Tensor:
        whole = pad(x, (before, after), (0, 0), (wraps, False), "edge" if edge else "zeros", axes=(1, 2))
        starts = (0, 2, 4, 7)
        parts = [whole[:, a : b + before + after] for a, b in pairwise(starts)]
        return torch.cat(parts, 1)

    assert_equal_to_one(
        3, rows, lambda own, x: own.with_margins(x, 1, (before, after), wraps=wraps, edge=edge), expected
    )


def test_rows_move_to_another_layout() -> None:
    def layer(own: RowLayout, x: Tensor) -> Tensor:
        return own.moved(x, 1, RowLayout(own.group, (0, 5, 6, 7, 8)), offset=1)

    assert_equal_to_one(4, 10, layer, lambda x: x[:, 1:9])


@pytest.mark.parametrize("wraps", [False, True])
def test_pairs_of_rows_are_completed_beyond_the_end(wraps: bool) -> None:
    def expected(x: Tensor) -> Tensor:
        return pad(x, (0, 1), (0, 0), (wraps, False), axes=(1, 2))

    assert_equal_to_one(3, 7, lambda own, x: own.coarsened(x, 1, 2, own.of(4), wraps=wraps), expected)


@pytest.mark.parametrize("by_place", [False, True])
@pytest.mark.parametrize("size", [2, 4])
def test_groups_of_distant_rows_are_computed_together(size: int, by_place: bool) -> None:
    """Also where there are fewer groups than processes, so that several compute the same one."""
    rows, groups = 9, 3
    members = [list(range(group, rows, groups)) for group in range(groups)]
    homes = [row % groups * 3 + row // groups for row in range(rows)]

    def cumulative(x: Tensor) -> Tensor:
        # Each row and those before it in its group: any row of a group in a wrong place would show.
        return torch.unflatten(x, 1, (3, groups)).cumsum(1).sin().flatten(1, 2)

    def layer(own: RowLayout, x: Tensor) -> Tensor:
        plan = regrouped(own, members, homes, by_place=by_place)
        together = plan.bring(x, 1)
        number = len(plan.mine)
        shape, axis = ((3, number), 1) if by_place else ((number, 3), 2)
        y = torch.unflatten(together, 1, shape).cumsum(axis).sin().flatten(1, 2)
        return plan.take_back(y, 1)

    assert_equal_to_one(size, rows, layer, cumulative)


@pytest.mark.parametrize("p", [1, 2])
def test_sums_means_and_norms_are_those_of_all_rows(p: int) -> None:
    def of_parts(own: RowLayout, x: Tensor) -> Tensor:
        found = (
            own.total(x.sum(1)),
            own.average(x.mean(1)),
            own.norm(torch.linalg.vector_norm(x, p, dim=1), p),
        )
        # Each process's copy is part of the objective.
        return torch.stack(found, 1)

    whole = field(7).requires_grad_()
    expected = of_parts(WHOLE, whole.sum(1, keepdim=True) * 0 + whole)  # the same functions of one process
    expected.sin().sum().backward()
    assert whole.grad is not None

    def work(layout: RowLayout) -> tuple[Tensor, Tensor]:
        x = field(7)[:, layout.of(7).own].requires_grad_()
        out = of_parts(layout.of(7), x)
        out.sin().sum().backward()
        assert x.grad is not None
        return out.detach(), x.grad

    outs, grads = zip(*row_threads.together(3, work), strict=True)
    for out in outs:
        torch.testing.assert_close(out, expected.detach(), rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(torch.cat(grads, 1), 3 * whole.grad, rtol=1e-12, atol=1e-12)


def test_a_group_normalisation_has_the_statistics_of_all_rows() -> None:
    norm = nn.GroupNorm(2, 4).double()
    with torch.no_grad():
        norm.weight.copy_(torch.linspace(0.5, 2, 4))
        norm.bias.copy_(torch.linspace(-1, 1, 4))

    def layer(own: RowLayout, x: Tensor) -> Tensor:
        return own.group_norm(norm, x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)

    x = field(7).requires_grad_()
    out = layer(WHOLE, x)
    weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (out * weight).sum().backward()
    found, grad = shared(3, 7, layer, weight)
    torch.testing.assert_close(found, out.detach(), rtol=1e-13, atol=1e-13)
    assert x.grad is not None
    torch.testing.assert_close(grad, x.grad, rtol=1e-12, atol=1e-12)


def test_units_of_rows_are_dealt_whole() -> None:
    [first, *_] = row_threads.together(3, lambda own: dealt_rows(26, 4, own.processes))
    assert first.starts == (0, 8, 16, 26)


def test_one_process_has_all_rows() -> None:
    x = field(5)
    assert WHOLE.moved(x, 1, WHOLE) is x
    assert WHOLE.total(x) is x
    assert WHOLE.of(3) is WHOLE
    assert WHOLE.count(5) == 5
