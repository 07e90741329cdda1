import itertools
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.testing import assert_close

from pelagos.models.networks.credit.earth_padding import GridPadding, PaddingConfig, PaddingMode
from pelagos.preprocessing.errors import ConfigError
from pelagos.preprocessing.grid import Grid

WIDTHS = ((0, 0), (3, 0), (0, 2), (1, 4))


def grid(height: int = 6, width: int = 8) -> Tensor:
    return torch.arange(2.0 * height * width, dtype=torch.float64).reshape(1, 2, height, width)


@pytest.mark.parametrize("mode", ["earth", "mirror", "boundary"])
@pytest.mark.parametrize(("lat", "lon"), tuple(itertools.product(WIDTHS, WIDTHS)))
def test_cropping_undoes_padding(mode: PaddingMode, lat: tuple[int, int], lon: tuple[int, int]) -> None:
    padding = PaddingConfig(mode=mode, lat=lat, lon=lon).build()
    padded = padding.pad(grid(), (True, False))
    assert padded.shape[-2:] == (6 + sum(lat), 8 + sum(lon))
    assert_close(padding.crop(padded, 6, 8), grid(), rtol=0, atol=0)


@pytest.mark.parametrize("mode", ["earth", "mirror"])
@pytest.mark.parametrize("lat", WIDTHS)
def test_longitude_is_periodic_in_every_row(mode: PaddingMode, lat: tuple[int, int]) -> None:
    padded = GridPadding(mode, lat, (5, 11)).pad(grid())
    assert_close(padded[..., :-8], padded[..., 8:], rtol=0, atol=0)


@pytest.mark.parametrize("lat", WIDTHS)
def test_earth_padding_continues_smooth_fields_over_the_poles(lat: tuple[int, int]) -> None:
    """A field on the sphere, whose cells' centres lie half a cell from the poles, is known beyond them."""
    height, width = 6, 8

    def field(rows: Tensor) -> Tensor:
        colatitude = (rows + 0.5)[:, None] * torch.pi / height
        longitude = torch.arange(width, dtype=torch.float64) * 2 * torch.pi / width
        return (colatitude.cos() ** 2 + colatitude.sin() * longitude.cos())[None, None]

    padded = GridPadding("earth", lat).pad(field(torch.arange(height, dtype=torch.float64)))
    beyond = field(torch.arange(-lat[0], height + lat[1], dtype=torch.float64))
    assert_close(padded, beyond, rtol=0, atol=1e-14)


def test_mirror_padding_does_not_repeat_the_outermost_row() -> None:
    padded = GridPadding("mirror", (2, 1)).pad(grid())
    assert_close(padded, grid()[..., [2, 1, 0, 1, 2, 3, 4, 5, 4], :], rtol=0, atol=0)


def test_one_number_stands_for_both_sides() -> None:
    one, two = (PaddingConfig(mode="earth", lat=lat, lon=3).build().pad(grid()) for lat in (2, (2, 2)))
    assert_close(one, two, rtol=0, atol=0)


def test_boundary_padding_heeds_what_the_call_says() -> None:
    padded = GridPadding("boundary", (1, 0), (1, 0)).pad(grid(), (False, True))
    assert padded[..., 0, :].abs().max() == 0
    assert_close(padded[..., 1:, 0], grid()[..., -1], rtol=0, atol=0)


@pytest.mark.parametrize("mode", ["earth", "boundary"])
def test_sizes_become_the_smallest_multiples(mode: PaddingMode) -> None:
    padding = PaddingConfig(mode=mode, lat=(1, 0), lon=1).build((5, 4))
    padded = padding.pad(grid(), (True, True))
    assert padded.shape[-2:] == (10, 12)
    assert_close(padding.crop(padded, 6, 8), grid(), rtol=0, atol=0)


def test_a_coarser_map_is_cropped_by_fewer_cells() -> None:
    padding = GridPadding("earth", (2, 4), (4, 0))
    coarse = padding.pad(grid())[..., ::2, ::4]
    assert_close(padding.crop(coarse, 6, 8, (2, 4)), grid()[..., ::2, ::4], rtol=0, atol=0)
    with pytest.raises(ValueError, match=r"\(2, 4\) rows.*multiples of \(4, 4\)"):
        padding.crop(coarse, 6, 8, (4, 4))


@pytest.mark.parametrize(
    ("mode", "lat", "size", "message"),
    [
        ("earth", (1, 0), (6, 7), "even number of columns, found 7"),
        ("earth", (0, 7), (6, 8), "at least 7 rows, found 6"),
        ("mirror", (6, 0), (6, 8), "at least 7 rows, found 6"),
    ],
)
def test_sizes_that_cannot_be_served_are_errors(
    mode: PaddingMode, lat: tuple[int, int], size: tuple[int, int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        GridPadding(mode, lat).pad(grid(*size))


def test_negative_widths_are_errors() -> None:
    with pytest.raises(ValidationError, match=r"padding.lon is \(0, -1\)"):
        PaddingConfig(lon=(0, -1))


@pytest.mark.parametrize("mode", ["earth", "sphere", "mirror", "boundary"])
def test_poles_and_seams_are_not_made_up_on_regional_grids(mode: PaddingMode) -> None:
    padding = PaddingConfig(mode=mode, lat=2)
    y, x = np.linspace(80, -80, 9), np.arange(0, 360, 22.5)
    globe = Grid("latlon", y, x, ("pole", "pole"), ("periodic", "periodic"), "degrees")
    padding.check_grid(globe, "globe")
    region = Grid(
        "latlon", np.linspace(50, 60, 5), np.arange(-6.0, 2.0), ("open", "open"), ("open", "open"), "degrees"
    )
    with (
        nullcontext()
        if mode == "boundary"
        else pytest.raises(ConfigError, match=r"britain do(es)? not go round")
    ):
        padding.check_grid(region, "britain")
