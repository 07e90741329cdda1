import math

import pytest
import torch
from torch import Tensor

from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.physics.spectral import Modes, step_lengths, truncate

SHAPES = [(16, 16), (15, 21), (12, 9), (9, 14)]


def modes(shape: tuple[int, int], length: float = 1.0) -> Modes:
    return Modes(shape, length, torch.float64, torch.device("cpu"))


def points(shape: tuple[int, int], length: float = 1.0) -> tuple[Tensor, Tensor]:
    h, w = shape
    y = torch.arange(h, dtype=torch.float64)[:, None] * length / h
    x = torch.arange(w, dtype=torch.float64)[None, :] * length / w
    return y.expand(shape), x.expand(shape)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("length", [1.0, 2 * math.pi, 0.3])
def test_derivatives_of_waves_are_exact_on_any_grid_and_side_length(
    shape: tuple[int, int], length: float
) -> None:
    y, x = points(shape, length)
    k, m = 2 * math.pi * 3 / length, 2 * math.pi * 2 / length
    field, grid = torch.sin(k * x + m * y), modes(shape, length)
    coefficients = grid.forward(field)
    slope = torch.cos(k * x + m * y)
    torch.testing.assert_close(grid.backward(grid.ddx * coefficients), k * slope, rtol=0, atol=1e-12 * k)
    torch.testing.assert_close(grid.backward(grid.ddy * coefficients), m * slope, rtol=0, atol=1e-12 * k)
    torch.testing.assert_close(
        grid.backward(-grid.square * coefficients), -(k * k + m * m) * field, rtol=0, atol=1e-12 * k * k
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_transforms_are_inverse_and_coefficients_do_not_depend_on_the_grid(shape: tuple[int, int]) -> None:
    y, x = points(shape)
    field = 0.5 + 3 * torch.cos(2 * math.pi * (2 * x + y))
    coefficients = modes(shape).forward(field)
    assert coefficients[0, 0].item() == pytest.approx(0.5)
    assert coefficients[1, 2].item() == pytest.approx(1.5)
    torch.testing.assert_close(modes(shape).backward(coefficients), field)


def test_the_nyquist_mode_has_no_first_derivative() -> None:
    _, x = points((8, 8))
    grid = modes((8, 8))
    zigzag = torch.cos(2 * math.pi * 4 * x)
    assert grid.backward(grid.ddx * grid.forward(zigzag)).abs().max() == 0
    assert grid.backward(grid.square * grid.forward(zigzag)).abs().max() > 600


@pytest.mark.parametrize("length", [1.0, 2 * math.pi, 1000 / 3])
@pytest.mark.parametrize(("n", "largest"), [(64, 21), (48, 15), (32, 10), (33, 10), (9, 2)])
def test_the_mask_keeps_modes_below_two_thirds_whatever_the_side_length(
    n: int, largest: int, length: float
) -> None:
    kept = modes((n, n), length).mask
    assert int(kept[0].sum()) == largest + 1
    assert int(kept[:, 0].sum()) == 2 * largest + 1


@pytest.mark.parametrize("shape", [(24, 24), (21, 32)])
def test_products_of_masked_fields_have_no_aliasing_error_within_the_mask(shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    grid, fine = modes(shape), (2 * shape[0], 2 * shape[1])
    fields = torch.randn(2, *shape, dtype=torch.float64, generator=generator)
    coefficients = grid.forward(fields) * grid.mask
    a, b = grid.backward(coefficients)
    padded = torch.zeros(2, fine[0], fine[1] // 2 + 1, dtype=torch.complex128)
    rows, columns = (shape[0] - 1) // 2, coefficients.shape[-1]
    padded[:, : rows + 1, :columns] = coefficients[:, : rows + 1]
    padded[:, -rows:, :columns] = coefficients[:, -rows:]
    fine_a, fine_b = modes(fine).backward(padded)
    exact = modes(shape).forward(truncate(fine_a * fine_b, shape)) * grid.mask
    torch.testing.assert_close(grid.forward(a * b) * grid.mask, exact, rtol=0, atol=1e-13)


@pytest.mark.parametrize("new", [(10, 8), (9, 12), (16, 7)])
def test_truncation_evaluates_a_smooth_field_on_the_coarser_grid(new: tuple[int, int]) -> None:
    def field(shape: tuple[int, int]) -> Tensor:
        y, x = points(shape)
        return torch.sin(2 * math.pi * (3 * x - 2 * y)) + torch.cos(2 * math.pi * y) + 0.7

    torch.testing.assert_close(truncate(field((16, 20)), new), field(new))


def test_truncation_removes_what_the_coarser_grid_cannot_hold() -> None:
    y, x = points((32, 32))
    high = torch.sin(2 * math.pi * 9 * x) + torch.cos(2 * math.pi * 8 * y)
    assert truncate(1 + high, (16, 16)).sub(1).abs().max() < 1e-14


def test_truncation_to_a_finer_grid_is_refused() -> None:
    with pytest.raises(DataError, match="cannot coarsen a 8 x 8 grid to 8 x 9"):
        truncate(torch.zeros(8, 8), (8, 9))


def test_steps_add_up_to_the_time_and_are_as_long_as_asked_for_where_that_is_stable() -> None:
    asked = 0.1 / 3
    stable = torch.tensor([1.0, asked, 0.033, 0.02, 1e-4, torch.nan], dtype=torch.float64)
    steps = torch.tensor(list(step_lengths(asked, 3, stable)), dtype=torch.float64).T
    for lengths, longest, count in zip(steps[:4], stable, [3, 3, 4, 5], strict=False):
        assert (lengths[:count] == lengths[0]).all()
        assert (lengths[count:] == 0).all()
        assert lengths[0] <= longest * (1 + 1e-8)
    assert (steps[:2, 0] == asked).all()
    torch.testing.assert_close(steps[:4].sum(1), torch.full((4,), 0.1, dtype=torch.float64))
    assert steps[4:].isnan().any(1).all()
    assert list(step_lengths(asked, 3, None)) == list(step_lengths(asked, 3, stable[:2])) == [(asked,)] * 3
