"""What processes add beyond the rows that they share is what one adds to all of them."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from pelagos.models.layers.padding import Widths, pad
from pelagos.models.layers.pole_padding import over_poles
from pelagos.models.layers.row_layout import RowLayout
from pelagos.models.layers.row_padding import Beyond, padded_rows
from pelagos.preprocessing.errors import DataError
from tests.models.row_threads import together

ON_POLE, SIGNS = (True, False), (1, -1)


def mirrored(x: Tensor, rows: Widths) -> Tensor:
    north, south = rows
    return torch.cat([x[..., 1 : north + 1, :].flip(-2), x, x[..., -south - 1 : -1, :].flip(-2)], -2)


@pytest.mark.parametrize(
    ("beyond", "whole"),
    [
        ("zeros", lambda x, rows: pad(x, rows, (0, 0))),
        ("edge", lambda x, rows: pad(x, rows, (0, 0), fill="edge")),
        ("wrap", lambda x, rows: pad(x, rows, (0, 0), (True, False))),
        ("mirror", mirrored),
        ("poles", lambda x, rows: over_poles(x, rows, on_pole=ON_POLE, signs=SIGNS)),
    ],
)
@pytest.mark.parametrize("rows", [(1, 3), (5, 4)])
def test_the_padded_field_is_that_of_one_process(
    beyond: Beyond, whole: Callable[[Tensor, Widths], Tensor], rows: Widths
) -> None:
    x = torch.randn(2, 2, 7, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def work(layout: RowLayout) -> Tensor:
        before, after = layout.of(7), layout.of(7 + sum(rows))
        own = x[:, :, before.own.start : before.own.stop]
        return padded_rows(own, before, after, rows, beyond, on_pole=ON_POLE, signs=SIGNS)

    found = torch.cat(together(3, work), 2)
    torch.testing.assert_close(found, whole(x, rows), rtol=0, atol=0)


def test_no_more_rows_than_there_are_lie_beyond_a_pole() -> None:
    def work(layout: RowLayout) -> Tensor:
        return padded_rows(torch.zeros(1, 2, 2, 4), layout.of(4), layout.of(13), (0, 9), "poles")

    with pytest.raises(DataError, match="at least 9 rows, found 4"):
        together(2, work)
