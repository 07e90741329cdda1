"""Beyond a pole lie the rows of the opposite meridian, and there east is west."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from pelagos.models.layers.pole_padding import over_poles
from pelagos.preprocessing.errors import DataError

WIDTH = 12


def fields(latitude: Tensor) -> Tensor:
    """(1, 3, h, w): a scalar, and eastward and northward velocity of a rotation about an oblique axis.

    Latitudes beyond a pole are read as the formulas read them: points on the other side, with east and north turned.
    """
    y, x = latitude[:, None], torch.arange(WIDTH, dtype=torch.float64) * 2 * torch.pi / WIDTH
    scalar = y.sin() ** 3 + y.cos() * (x - 0.3).cos() + y.cos() ** 2 * (2 * x).sin()
    eastward = 0.7 * y.cos() - 0.4 * y.sin() * (x - 1).cos()
    northward = 0.4 * (x - 1).sin() + 0 * y
    return torch.stack([scalar, eastward, northward])[None]


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("on_pole", [False, True])
@pytest.mark.parametrize("rows", [(3, 2), (0, 4), (1, 0)])
def test_rows_beyond_the_poles_are_the_field_there(
    rows: tuple[int, int], on_pole: bool, descending: bool
) -> None:
    height = 8
    step = np.pi / (height - 1) if on_pole else np.pi / height
    first = -np.pi / 2 + (0 if on_pole else step / 2)
    latitude = first + step * torch.arange(-rows[0], height + rows[1], dtype=torch.float64)
    latitude = -latitude if descending else latitude
    own = latitude[rows[0] : rows[0] + height]
    wanted = fields(latitude)
    # The formulas give the components along the meridian that goes on: turned round, as the padding has to turn them.
    made = over_poles(fields(own), rows, on_pole=(on_pole, on_pole), signs=(1, -1, -1))
    assert_close(made, wanted, rtol=0, atol=1e-14)


def test_padding_turns_with_the_earth_to_the_bit() -> None:
    x_BCHW = torch.randn(2, 3, 6, WIDTH)
    for shift in (1, 5, WIDTH // 2):
        turned = over_poles(x_BCHW.roll(shift, -1), (2, 3), signs=(1, -1, -1))
        assert torch.equal(turned, over_poles(x_BCHW, (2, 3), signs=(1, -1, -1)).roll(shift, -1))


def test_what_has_no_opposite_meridian_is_refused() -> None:
    with pytest.raises(DataError, match=r"even number of columns, found 7: e\.g\. 8"):
        over_poles(torch.zeros(1, 1, 4, 7), (1, 0))
    with pytest.raises(DataError, match="at least 5 rows, found 4"):
        over_poles(torch.zeros(1, 1, 4, 8), (4, 0), on_pole=(True, False))
