"""Plans of exchanges say the same to all processes."""

import torch
from torch import Tensor

from pelagos.models.layers.row_exchange import NOWHERE, exchange, exchange_plan
from pelagos.models.layers.row_layout import RowLayout
from tests.models import row_threads

HELD = [[0, 1, 2], [3, 4]]


def test_rows_are_sent_once_however_often_they_are_wanted() -> None:
    wanted = [[4, 4, 0, 3, 9], [2]]
    first, second = (exchange_plan(HELD, wanted, rank) for rank in range(2))
    assert first.receives == (0, 2)
    assert second.sends == (((1, 1), (0, 1)), ())
    assert first.sends == ((), ((2, 1),))
    assert first.pieces == ((1, (0, 1)), (1, (0, 1)), (0, (0, 1)), (1, (1, 1)), (NOWHERE, (0, 1)))
    assert first.moves
    assert second.moves


def test_what_stays_is_neither_copied_nor_sent() -> None:
    plan = exchange_plan(HELD, HELD, 0)
    assert not plan.moves
    [same] = row_threads.together(1, lambda own: _same(own, plan_rank=0))
    assert same


def _same(own: RowLayout, plan_rank: int) -> bool:
    x = torch.ones(3, 2)
    return exchange(x, 0, exchange_plan(HELD, HELD, plan_rank), own.processes) is x


def test_a_process_that_only_gives_gets_its_gradient() -> None:
    def work(own: RowLayout) -> Tensor:
        group = own.processes
        x = torch.ones(len(HELD[group.rank]), 2, requires_grad=True)
        plan = exchange_plan(HELD, [[0, 1, 4, 4], [3]], group.rank)
        exchange(x, 0, plan, group).sum().backward()
        assert x.grad is not None
        return x.grad[:, 0]

    first, second = row_threads.together(2, work)
    assert first.tolist() == [1, 1, 0]
    assert second.tolist() == [1, 2]
