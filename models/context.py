"""What a network is built for, and what it is told in a call besides fields and lead times."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Signature:
    """The variables and scalars of a network; all of its channel counts derive from them.

    Attributes:
        inputs: keys of the variables that can be input, in the order of the network's weights.
        outputs: keys of the variables that can be output, in the order of the network's weights.
        scalars: names of the parameters that condition the network besides the lead time.
        shape: (H, W) of the training grid, for networks that serve a single grid.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    scalars: tuple[str, ...] = ()
    shape: tuple[int, int] | None = None


@dataclass(frozen=True, eq=False)
class Context:
    """What the channels of one call are, the same for all of its samples.

    Attributes:
        inputs: the position of each input channel in the signature's inputs; None for all, in order.
        outputs: the position of each output channel in the signature's outputs; None for all, in order.
        residual: the input channel of the same variable for each output channel, -1 for none; None: by name.
        periodic: whether rows, and columns, wrap around.
        scalars: (B, S) in the signature's order, NaN where missing; None if all are missing.
    """

    # Positions, not keys, so that a compiled graph is specialised on plain integers.
    inputs: tuple[int, ...] | None = None
    outputs: tuple[int, ...] | None = None
    residual: tuple[int, ...] | None = None
    periodic: tuple[bool, bool] = (False, False)
    scalars: Tensor | None = None


ALL_VARIABLES = Context()
"""All of the signature's variables in order, no scalars, nothing periodic."""
