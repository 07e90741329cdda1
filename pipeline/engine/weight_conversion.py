"""Weight conversion: how often weights become bf16 in a step."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def converted_once() -> Iterator[None]:
    """The context in which autocast converts each weight once, in all forward passes together, instead of in each.

    Weights must not change in it. Autocast itself is neither on nor off in it, so that backward passes are as without.
    """
    # Autocast forgets what it has converted when its outermost context ends: this is one around those of the passes.
    torch.autocast_increment_nesting()
    try:
        yield
    finally:
        if torch.autocast_decrement_nesting() == 0:
            torch.clear_autocast_cache()
