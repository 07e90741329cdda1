"""Windows of a grid of tokens: what is cut is joined again, and no mask is made where none is needed."""

import torch

from pelagos.models.networks.scot import token_windows
from pelagos.models.networks.scot.token_windows import TokenWindows, WindowAxis

CPU = torch.device("cpu")


def test_windows_of_a_global_grid_are_cut_without_a_mask_in_memory() -> None:
    """180 x 360 tokens in windows of 15: a mask would take 58 MB, the tables take 1."""
    grid = TokenWindows(WindowAxis(180, 15, wraps=True), WindowAxis(360, 15, wraps=True))
    assert not grid.masked
    assert sum(table.nbytes for table in token_windows._tables(grid, CPU)) < 2**21
