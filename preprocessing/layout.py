"""Layout: what the channels of a dataset's samples mean."""

from dataclasses import dataclass

from pelagos.preprocessing.grid import Grid
from pelagos.preprocessing.variables import Variable, at_valid_time, earlier, with_role


@dataclass(frozen=True, eq=False)
class Layout:
    """What the channels of one dataset's samples mean, in all its batches.

    Attributes:
        dataset: identifier of the dataset.
        inputs: variables of one frame that is input: prognostic, then static, then forcing.
        outputs: variables of the output channels: prognostic, then diagnostic.
        grid: the grid of all inputs and outputs.
        scalars: names of the parameters that accompany each sample.
        time_scale: physical duration of lead time 1, in the dataset's unit of time.
        at_rest: keys of the outputs that are constant in all that trains, and 0 when normalised.
        history: how long before the initial frame the other frames that are input lie, the nearest first [frames, of
            imported networks steps].
        sees_valid_forcing: whether forcings at the valid time are input as well.
    """

    dataset: str
    inputs: tuple[Variable, ...]
    outputs: tuple[Variable, ...]
    grid: Grid
    scalars: tuple[str, ...] = ()
    time_scale: float = 1.0
    at_rest: frozenset[str] = frozenset()
    history: tuple[int, ...] = ()
    sees_valid_forcing: bool = False

    @property
    def channels(self) -> tuple[Variable, ...]:
        """What a network is given: the initial frame, earlier ones, and forcings at the valid time."""
        return input_channels(self.inputs, self.history, sees_valid_forcing=self.sees_valid_forcing)


def input_channels(
    inputs: tuple[Variable, ...], history: tuple[int, ...], *, sees_valid_forcing: bool
) -> tuple[Variable, ...]:
    """The channels of a network that sees these variables: whole frames, then forcings at the valid time."""
    frames = [earlier(variable, age) for age in (0, *history) for variable in inputs]
    ahead = with_role(inputs, "forcing") if sees_valid_forcing else ()
    return (*frames, *(at_valid_time(one) for one in ahead))
