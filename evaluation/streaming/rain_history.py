"""Rain history: which variable is rain, and its climate over the training split, as SEEPS and FSS need them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from pydantic import Field, PositiveFloat

from pelagos.evaluation.forecast_plan import frames_in_split
from pelagos.evaluation.frame_sums.rain_sums import DRY_MM, RainClimate, RainSums, require_scores
from pelagos.evaluation.streaming.frame_sources import physical
from pelagos.evaluation.truth import channel_positions
from pelagos.preprocessing.array_types import Floats
from pelagos.preprocessing.config import Config
from pelagos.preprocessing.errors import ConfigError
from pelagos.preprocessing.quantities import units
from pelagos.preprocessing.store.store import Store
from pelagos.preprocessing.variables import Variable, keys

_BAND_BYTES = 2**28
"""Of the history that is in memory at a time; the largest quantile of a point needs all of its values at once."""


class RainConfig(Config):
    """How SEEPS and FSS see rain.

    Attributes:
        variable: the key of the accumulation.
        thresholds: above which the event of FSS happens, in the variable's units.
        window: the neighbourhood of FSS, in points a side.
        dry: the most that SEEPS takes for dry, in the variable's units; by default 0.25 mm.
    """

    variable: str
    thresholds: tuple[float, ...] = ()
    window: int = Field(default=3, ge=1)
    dry: PositiveFloat | None = None

    def sums(self, store: Store, variables: Sequence[Variable], split: str, *, seeps: bool) -> RainSums:
        """What is gathered of forecasts of these variables; the climate is fitted when it is first needed.

        Raises:
            ConfigError: there is no such variable, its units are no amount of rain, the window is larger than the
                grid, or the package `scores` is not installed.
            DataError: the store has no such split.
        """
        require_scores()
        if self.variable not in keys(variables):
            raise ConfigError(
                f"rain.variable: {self.variable!r} is none of the forecast variables, {', '.join(keys(variables))}"
            )
        if self.window > min(store.grid.shape):
            raise ConfigError(
                f"rain.window: {self.window} points do not fit into a grid of {store.grid.shape}"
            )
        position = keys(variables).index(self.variable)
        variable = variables[position]
        dry = self._dry(variable) if seeps else DRY_MM
        history = RainHistory(store, variable, split, dry)
        frames_in_split(store, split)
        return RainSums(
            position, dry, self.thresholds, self.window, store.grid.area_weights(), lambda: history.climate
        )

    def _dry(self, variable: Variable) -> float:
        if self.dry is not None:
            return self.dry
        # A kilogram of water on a square metre is a millimetre deep.
        of_mass = units.parse_unit(variable.units or "1").dimension == units.parse_unit("kg m-2").dimension
        try:
            factor, _ = units.conversion("kg m-2" if of_mass else "mm", variable.units or "1")
        except ConfigError as error:
            raise ConfigError(
                f"rain.dry: SEEPS is of accumulations, and {variable.key} has the units {variable.units!r}, which are"
                f" no amount of rain: choose another variable, or give the most that is dry ({error})"
            ) from error
        return DRY_MM * factor


@dataclass(frozen=True, eq=False)
class RainHistory:
    """The amounts of a variable in the training split.

    Attributes:
        store: that holds it.
        variable: the accumulation.
        split: whose frames count.
        dry: the most that is dry.
    """

    store: Store
    variable: Variable
    split: str
    dry: float

    @cached_property
    def climate(self) -> RainClimate:
        """How often each point is dry, and what is heavy rain there; rows are read in bands."""
        rows, columns = self.store.grid.shape
        frames = int(frames_in_split(self.store, self.split).sum())
        band = max(1, _BAND_BYTES // (8 * frames * columns))
        parts = [
            RainClimate.fit(self._amounts(slice(first, first + band)), self.dry)
            for first in range(0, rows, band)
        ]
        return RainClimate(
            np.concatenate([part.dry for part in parts]), np.concatenate([part.heavy for part in parts])
        )

    def _amounts(self, rows: slice) -> Floats:
        channels = (self.variable,)
        position = channel_positions(self.store, channels)
        found = [
            physical(self.store.take(trajectory, [frame])[:, position], channels)[0, 0, rows]
            for trajectory, inside in enumerate(frames_in_split(self.store, self.split))
            for frame in np.flatnonzero(inside).tolist()
        ]
        return np.stack(found).astype(np.float64)
