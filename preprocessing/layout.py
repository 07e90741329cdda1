"""Layout: what the channels of a dataset's samples mean."""

from dataclasses import dataclass

from pelagos.preprocessing.grid import Grid
from pelagos.preprocessing.variables import Variable


@dataclass(frozen=True, eq=False)
class Layout:
    """What the channels of one dataset's samples mean, in all its batches.

    Attributes:
        dataset: identifier of the dataset.
        inputs: variables of the input channels: prognostic, then static, then forcing.
        outputs: variables of the output channels: prognostic, then diagnostic.
        grid: the grid of all inputs and outputs.
        scalars: names of the parameters that accompany each sample.
        time_scale: physical duration of lead time 1, in the dataset's unit of time.
        at_rest: keys of the outputs that are constant in all that trains, and 0 when normalised.
    """

    dataset: str
    inputs: tuple[Variable, ...]
    outputs: tuple[Variable, ...]
    grid: Grid
    scalars: tuple[str, ...] = ()
    time_scale: float = 1.0
    at_rest: frozenset[str] = frozenset()
