"""What a network is given for a batch of forecasts: fields and parameters of a store, and earlier inputs.

Shapes: B samples, C channels, H rows, W columns, S scalars.
"""

from collections import deque
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pelagos.evaluation.forecast_plan import ForecastStart
from pelagos.evaluation.truth import channel_positions
from pelagos.pipeline.engine import distributed
from pelagos.pipeline.forecasting.forcing_supply import ForcingSupply
from pelagos.pipeline.runs.domain_fit import DomainFit
from pelagos.pipeline.runs.model_folder import Domain
from pelagos.preprocessing.store.store import Store
from pelagos.preprocessing.variables import Variable, with_role

Fields = NDArray[np.float32]


class StoredInputs:
    """What a network is given from a store for one batch of forecasts: normalised, missing values zero.

    Attributes:
        static_BCHW: fields that do not depend on time.
        scalars_BS: parameters of each sample's trajectory.
    """

    def __init__(
        self,
        store: Store,
        domain: Domain,
        samples: Sequence[ForecastStart],
        stride: int,
        fit: DomainFit | None = None,
        supply: ForcingSupply | None = None,
    ) -> None:
        self._fit, self._supply = fit or DomainFit(store.grid), supply or ForcingSupply(store)
        self._store, self._domain, self._samples, self._stride = store, domain, samples, stride
        self._prognostic = with_role(domain.inputs, "prognostic")
        self._forcing = with_role(domain.inputs, "forcing")
        static = with_role(domain.inputs, "static")
        fields = [self._supply.static(static, one.trajectory) for one in samples]
        self.static_BCHW = self._normalised(fields, static).nan_to_num(0.0)
        scalars = np.stack([self._supply.scalar_values(domain.scalars, one.trajectory) for one in samples])
        self.scalars_BS = torch.as_tensor(scalars, device=distributed.device())

    def state(self, step: int = 0) -> Tensor:
        """(B, C, H, W) prognostic fields so many steps after the initial time, NaN where values are missing."""
        offset = step * self._stride
        fields = [self._frame(one.trajectory, one.start + offset) for one in self._samples]
        return self._normalised(fields, self._prognostic)

    def forcing(self, step: int) -> Tensor:
        """(B, C, H, W) forcing fields so many steps after the initial time, or before it where negative."""
        offset = step * self._stride
        fields = [
            self._supply.frame(self._forcing, one.trajectory, one.start + offset) for one in self._samples
        ]
        return self._normalised(fields, self._forcing).nan_to_num(0.0)

    def lagged(self, step: int = 0) -> list[Tensor]:
        """(B, C, H, W) whole inputs of the steps before a step that the network sees, newest first."""
        return [
            torch.cat(
                [self.state(step - age).nan_to_num(0.0), self.static_BCHW, self.forcing(step - age)], dim=1
            )
            for age in range(1, self._domain.frames)
        ]

    def _frame(self, trajectory: int, frame: int) -> Fields:
        """(C, H, W) prognostic fields as stored."""
        if not self._prognostic:
            return np.empty((0, *self._store.grid.shape), np.float32)
        return self._store.read(trajectory, frame, frame + 1)[
            0, channel_positions(self._store, self._prognostic)
        ]

    def _normalised(self, fields: Sequence[Fields], variables: Sequence[Variable]) -> Tensor:
        # Stacked first: torch takes no arrays with negative strides, and stacking copies.
        turned = np.stack([self._fit.turned(field) for field in fields])
        normalised = self._domain.normalizer(variables).normalize(turned)
        return torch.as_tensor(normalised, device=distributed.device())


class InputHistory:
    """The inputs of earlier steps that a network of several frames sees, newest first."""

    def __init__(self, earlier: Iterable[Tensor]) -> None:
        frames = list(earlier)
        self._earlier = deque(frames, maxlen=len(frames))

    def join(self, fields_BCHW: Tensor) -> Tensor:
        """The current input, followed by the earlier ones."""
        # Without history there is nothing to join: `cat` would copy the input at every step.
        return torch.cat([fields_BCHW, *self._earlier], dim=1) if self._earlier else fields_BCHW

    def push(self, fields_BCHW: Tensor) -> None:
        """Take the current input in, and let go of the oldest."""
        self._earlier.appendleft(fields_BCHW)
