"""What a network is built for, and what it is told in a call besides fields and lead times."""

from dataclasses import dataclass

from torch import Tensor

from pelagos.models.layers.row_layout import WHOLE, RowLayout


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


@dataclass(frozen=True)
class Sphere:
    """Where on the Earth the points of a call are.

    Attributes:
        latitude: (H,) of the rows [degrees].
        longitude: (W,) of the columns [degrees].
        signs: of each input channel beyond a pole: -1 for components of vectors, otherwise 1.
        whole: whether the grid goes round and reaches both poles.
    """

    latitude: tuple[float, ...]
    longitude: tuple[float, ...]
    signs: tuple[int, ...]
    whole: bool

    @property
    def on_pole(self) -> tuple[bool, bool]:
        """Whether the first, and the last, row lies on a pole itself."""
        first, last = (abs(abs(self.latitude[place]) - 90) < 1e-6 for place in (0, -1))
        return first, last


@dataclass(frozen=True, eq=False)
class Context:
    """What the channels of one call are, the same for all of its samples.

    Attributes:
        inputs: the position of each input channel in the signature's inputs; None for all, in order.
        outputs: the position of each output channel in the signature's outputs; None for all, in order.
        residual: the input channel of the same variable for each output channel, -1 for none; None: by name.
        periodic: whether rows, and columns, wrap around.
        scalars: (B, S) in the signature's order, NaN where missing; None if all are missing.
        sphere: where the points are on the Earth; None where the grid is of no sphere, or nobody says.
        rows: which rows of the fields this process has; the rest of a context is of the whole grid.
    """

    # Positions, not keys, so that a compiled graph is specialised on plain integers.
    inputs: tuple[int, ...] | None = None
    outputs: tuple[int, ...] | None = None
    residual: tuple[int, ...] | None = None
    periodic: tuple[bool, bool] = (False, False)
    scalars: Tensor | None = None
    sphere: Sphere | None = None
    rows: RowLayout = WHOLE


ALL_VARIABLES = Context()
"""All of the signature's variables in order, no scalars, nothing periodic."""
