"""What a network is told beside fields and lead times, and what it is built for."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Signature:
    """What a network is built for; all channel counts derive from it.

    Attributes:
        inputs: keys of all variables that can be input, in the order of the network's weights.
        outputs: likewise for outputs.
        scalars: names of the parameters that condition the network beside the lead time.
        shape: (H, W) of the training grid, for networks that need one grid.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    scalars: tuple[str, ...] = ()
    shape: tuple[int, int] | None = None


@dataclass(frozen=True, eq=False)
class Context:
    """What the channels of one call are; the same for all samples of the call.

    The default stands for: all of the signature's variables in order, nothing periodic.

    Attributes:
        inputs: for each input channel its position in the signature's inputs.
        outputs: for each output channel its position in the signature's outputs.
        residual: for each output channel the input channel of the same variable, -1 for none.
        periodic: whether rows, and columns, wrap around.
        scalars: (B, S) in the signature's order, NaN where missing.
    """

    inputs: tuple[int, ...] | None = None
    outputs: tuple[int, ...] | None = None
    residual: tuple[int, ...] | None = None
    periodic: tuple[bool, bool] = (False, False)
    scalars: Tensor | None = None
