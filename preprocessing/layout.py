"""Layout: what the channels of a dataset's samples are."""

from dataclasses import dataclass

from pelagos.preprocessing.grid import Grid
from pelagos.preprocessing.variables import Variable


@dataclass(frozen=True, eq=False)
class Layout:
    """What the channels of one dataset's samples are: the same for all its batches.

    Attributes:
        dataset: its identifier.
        inputs: variables of the input channels: prognostic, then static, then forcing.
        outputs: variables of the output channels: prognostic, then diagnostic.
        grid: shared by inputs and outputs.
        scalars: names of the parameters that go with each sample.
        time_scale: physical duration of lead time 1.
    """

    dataset: str
    inputs: tuple[Variable, ...]
    outputs: tuple[Variable, ...]
    grid: Grid
    scalars: tuple[str, ...] = ()
    time_scale: float = 1.0
