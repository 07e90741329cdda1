import pytest
import torch


@pytest.fixture
def one_thread() -> None:
    """As `pelagos simulate` and producers compute: how sums are rounded depends on the threads."""
    torch.set_num_threads(1)
