"""What a network is given for a batch of forecasts: fields and parameters of a store.

Shapes: B samples, C channels, H rows, W columns, S scalars.
"""

from collections.abc import Sequence

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
        stride: frames of a step.
        ages: how long before a step's initial frame the others that the network sees lie [frames].
    """

    def __init__(
        self,
        store: Store,
        domain: Domain,
        samples: Sequence[ForecastStart],
        stride: int,
        fit: DomainFit | None = None,
        supply: ForcingSupply | None = None,
        ages: Sequence[int] = (),
    ) -> None:
        self._fit, self._supply = fit or DomainFit(store.grid), supply or ForcingSupply(store)
        self.stride, self.ages = stride, tuple(ages)
        self._store, self._domain, self._samples = store, domain, samples
        self._prognostic = with_role(domain.inputs, "prognostic")
        self._forcing = with_role(domain.inputs, "forcing")
        static = with_role(domain.inputs, "static")
        fields = [self._supply.static(static, one.trajectory) for one in samples]
        self.static_BCHW = self._normalised(fields, static).nan_to_num(0.0)
        scalars = np.stack([self._supply.scalar_values(domain.scalars, one.trajectory) for one in samples])
        self.scalars_BS = torch.as_tensor(scalars, device=distributed.device())

    def state(self, frame: int = 0) -> Tensor:
        """(B, C, H, W) prognostic fields so many frames after the initial time, NaN where values are missing."""
        fields = [self._frame(one.trajectory, one.start + frame) for one in self._samples]
        return self._normalised(fields, self._prognostic)

    def outside(self, frame: int) -> Tensor:
        """(B, C, H, W) fields that drive a region's sides so many frames after the initial time, NaN where missing."""
        fields = [
            self._supply.outside(self._prognostic, one.trajectory, one.start + frame) for one in self._samples
        ]
        return self._normalised(fields, self._prognostic)

    def forcing(self, frame: int) -> Tensor:
        """(B, C, H, W) forcing fields so many frames after the initial time, or before it where negative."""
        fields = [
            self._supply.frame(self._forcing, one.trajectory, one.start + frame) for one in self._samples
        ]
        return self._normalised(fields, self._forcing).nan_to_num(0.0)

    def whole(self, frame: int, state_BCHW: Tensor | None = None) -> Tensor:
        """(B, C, H, W) all input variables at a frame, with a forecast state in place of the store's."""
        if state_BCHW is None:
            state_BCHW = self.state(frame).nan_to_num(0.0)
        return torch.cat([state_BCHW, self.static_BCHW, self.forcing(frame)], dim=1)

    def earlier(self, frame: int = 0) -> list[Tensor]:
        """(B, C, H, W) whole inputs before a frame that the network sees, newest first, all from the store."""
        return [self.whole(frame - age) for age in self.ages]

    def valid_forcing(self, frame: int) -> list[Tensor]:
        """The forcing at a frame that is forecast, where the network sees it."""
        return [self.forcing(frame)] if self._domain.sees_valid_forcing else []

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


class SeenFrames:
    """The inputs of a rollout by frame, as far as later steps see them: the store's up to the start, then forecasts.

    Attributes:
        latest: the frame that the coming step starts from, counted from the start of the forecast.
        within: frames of a step that have to be forecast as well, since a history reaches back to them.
    """

    def __init__(self, inputs: StoredInputs) -> None:
        self._inputs, self._fields = inputs, dict[int, Tensor]()
        self.latest = 0
        self.within = sorted({-age % inputs.stride for age in inputs.ages} - {0})

    def join(self, fields_BCHW: Tensor) -> Tensor:
        """The input of the coming step, followed by the earlier ones; the step after it comes next."""
        frame, self._fields[self.latest] = self.latest, fields_BCHW
        earlier = [self._at(frame - age) for age in self._inputs.ages]
        self.latest += self._inputs.stride
        oldest = self.latest - max(self._inputs.ages, default=0)
        self._fields = {one: fields for one, fields in self._fields.items() if one >= oldest}
        return torch.cat([fields_BCHW, *earlier], dim=1) if earlier else fields_BCHW

    def keep(self, frame: int, state_BCHW: Tensor) -> None:
        """Take in a frame within the step."""
        self._fields[frame] = self._inputs.whole(frame, state_BCHW)

    def _at(self, frame: int) -> Tensor:
        if frame not in self._fields:
            assert frame < 0, f"frame {frame} of the forecast is not there"
            self._fields[frame] = self._inputs.whole(frame)
        return self._fields[frame]
