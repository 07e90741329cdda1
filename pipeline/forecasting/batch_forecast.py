"""Batch forecast: one batch of forecasts in the making, a frame at a time.

Shapes: B samples, C channels, H rows, W columns.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from pelagos.evaluation.forecast_plan import ForecastStart
from pelagos.models.constraints.constrained_step import ConstrainedStep
from pelagos.models.context import Context, Signature
from pelagos.models.layers.noise import noise_columns, with_noise
from pelagos.models.rollout import rollout
from pelagos.pipeline.engine import distributed
from pelagos.pipeline.forecasting.ensemble import (
    BredStarts,
    EnsembleConfig,
    NoisyStarts,
    draws,
    dropping,
    normal,
)
from pelagos.pipeline.forecasting.forecast_inputs import Fields, SeenFrames, StoredInputs
from pelagos.pipeline.forecasting.strategy import Composite, Mode
from pelagos.pipeline.runs.domain_fit import DomainFit
from pelagos.pipeline.runs.model_folder import Domain, context_of
from pelagos.preprocessing import transform
from pelagos.preprocessing.layout import Layout
from pelagos.preprocessing.variables import keys, with_role


@dataclass(frozen=True, eq=False)
class NetworkCall:
    """A network bound to a dataset, as forecasts call it.

    Attributes:
        network: in eval mode.
        signature: of the network.
        layout: of the dataset.
        domain: what the model knows of the dataset.
        fit: how the store is brought to it.
        lead: time of one step as the network counts it.
        constrained: what each step is made to obey.
    """

    network: nn.Module
    signature: Signature
    layout: Layout
    domain: Domain
    fit: DomainFit
    lead: float
    constrained: ConstrainedStep


class BatchForecast:
    """One batch of forecasts in the making, a frame at a time.

    Args:
        call: the network.
        inputs: what the store gives these forecasts.
        samples: which forecasts they are, by which random numbers are drawn.
        mode: the strategy.
        steps: how many.
        ensemble: how members differ; None where they do not.
    """

    def __init__(
        self,
        call: NetworkCall,
        inputs: StoredInputs,
        samples: Sequence[ForecastStart],
        mode: Mode,
        steps: int,
        ensemble: EnsembleConfig | None = None,
    ) -> None:
        self._call_facts, self._inputs, self._samples = call, inputs, samples
        self._mode, self._steps, self._ensemble = mode, steps, ensemble
        self._domain, device = call.domain, distributed.device()
        self._held = torch.tensor(
            [n for n, key in enumerate(keys(self._domain.outputs)) if key in self._domain.held],
            dtype=torch.long,
            device=device,
        )
        self._lead_B = torch.full((len(samples),), call.lead, dtype=torch.float32, device=device)
        state = inputs.state()
        self._valid = torch.isfinite(state)
        self._forced = bool(with_role(self._domain.inputs, "forcing"))
        self._calls = 0
        self._state_BCHW = self._perturbed(state.nan_to_num(0.0))

    def frames(self) -> Iterator[Fields]:
        """(B, C, H, W) physical fields at one lead time after the other."""
        if isinstance(self._mode, Composite):
            frames = self._composite(self._mode)
        else:
            frames = self._direct() if self._mode == "direct" else self._rollout()
        for frame_BCHW in frames:
            yield self._physical(frame_BCHW)

    def _direct(self) -> Iterator[Tensor]:
        """Every lead time from the initial frame."""
        inputs, initial_BCHW = self._inputs, self._inputs.whole(0, self._state_BCHW)
        known = [initial_BCHW, *inputs.earlier()]
        for step in range(1, self._steps + 1):
            lead_B, ahead = self._lead_B * step, inputs.valid_forcing(step * inputs.stride)
            frame_BCHW = self._call(torch.cat([*known, *ahead], dim=1), lead_B)
            frame_BCHW = self._obeying(initial_BCHW, frame_BCHW, lead_B, step * inputs.stride)
            yield frame_BCHW.index_fill(1, self._held, 0.0)

    def _rollout(self) -> Iterator[Tensor]:
        """Each step from the step before."""
        inputs, stride, mask = self._inputs, self._inputs.stride, self._output_mask()
        seen = SeenFrames(inputs)

        def call(fields_BCHW: Tensor, frame: int, frames: int) -> Tensor:
            ahead = inputs.valid_forcing(frame + frames)
            return self._call(torch.cat([fields_BCHW, *ahead], dim=1), self._lead_B * (frames / stride))

        def advance(fields_BCHW: Tensor) -> Tensor:
            frame, stirred_BCHW = seen.latest, self._stirred(fields_BCHW)
            known_BCHW = seen.join(stirred_BCHW)
            # Frames within the step, which later histories reach back to.
            for within in seen.within:
                lead_B = self._lead_B * (within / stride)
                between_BCHW = self._obeying(
                    fields_BCHW, call(known_BCHW, frame, within), lead_B, frame + within
                )
                state_BCHW = torch.where(mask, between_BCHW, 0.0)[:, : self._state_BCHW.shape[1]]
                seen.keep(frame + within, state_BCHW)
            # Budgets are those of the frame before: what noise adds to it is no source.
            frame_BCHW = call(known_BCHW, frame, stride)
            return self._obeying(fields_BCHW, frame_BCHW, self._lead_B, frame + stride)

        forcing = (lambda step: inputs.forcing(step * stride)) if self._forced else None
        return rollout(advance, self._state_BCHW, inputs.static_BCHW, forcing, mask, self._steps)

    def _composite(self, mode: Composite) -> Iterator[Tensor]:
        """Each lead time by the fewest calls, from the frames on the way there."""
        mask, prognostic = self._output_mask(), self._state_BCHW.shape[1]
        states = {0: self._state_BCHW}
        for step in range(1, self._steps + 1):
            path = (0, *mode.path(step))
            before = path[-2]
            fields = [states[before], self._inputs.static_BCHW]
            fields += [self._inputs.forcing(before * self._inputs.stride)] if self._forced else []
            fields_BCHW, lead_B = torch.cat(fields, dim=1), self._lead_B * (step - before)
            frame_BCHW = self._call(self._stirred(fields_BCHW), lead_B)
            frame = step * self._inputs.stride
            frame_BCHW = torch.where(mask, self._obeying(fields_BCHW, frame_BCHW, lead_B, frame), 0.0)
            # Whatever a later step begins from is on the way to this one, so nothing else is kept.
            states = {one: states[one] for one in path[:-1]} | {step: frame_BCHW[:, :prognostic]}
            yield frame_BCHW

    def _call(self, fields_BCHW: Tensor, lead_B: Tensor) -> Tensor:
        self._calls += 1
        if self._ensemble is not None and self._ensemble.dropout:
            return self._dropped(self._ensemble, fields_BCHW, lead_B)
        return self._called(fields_BCHW, lead_B, self._inputs.scalars_BS, self._samples)

    def _obeying(self, before_BCHW: Tensor, frame_BCHW: Tensor, lead_B: Tensor, frame: int) -> Tensor:
        """The network's output at a frame after the start, made to obey the model's constraints."""
        constrained = self._call_facts.constrained
        if constrained.is_empty:
            return frame_BCHW
        outside = self._inputs.outside(frame) if constrained.is_driven else None
        ahead = self._inputs.valid_forcing(frame) if constrained.sees_valid_forcing else []
        return constrained(before_BCHW, frame_BCHW, lead_B, self._output_mask(), outside, *ahead)

    def _called(
        self, fields_BCHW: Tensor, lead_B: Tensor, scalars_BS: Tensor, samples: Sequence[ForecastStart]
    ) -> Tensor:
        facts = self._call_facts
        given = context_of(facts.signature, facts.layout, scalars_BS, lead_B)
        frame_BCHW: Tensor = facts.network(fields_BCHW, lead_B, self._sampled(given, samples))
        return frame_BCHW

    def _sampled(self, given: Context, samples: Sequence[ForecastStart]) -> Context:
        """The context with each perturbed member's own noise; without any for the control."""
        if self._ensemble is None or not self._ensemble.sampled:
            return given
        signature = self._call_facts.signature
        noise_BZ = torch.zeros(len(samples), len(noise_columns(signature)))
        for number, one in enumerate(samples):
            if self._ensemble.is_perturbed(one.member):
                generator = draws(self._ensemble.seed, one, "network", self._calls)
                noise_BZ[number] = normal(generator, noise_BZ[number])
        return replace(given, scalars=with_noise(given.scalars, noise_BZ, signature))

    def _dropped(self, ensemble: EnsembleConfig, fields_BCHW: Tensor, lead_B: Tensor) -> Tensor:
        """The network's answer with dropout, sample by sample: what is dropped must not depend on the batch."""
        answers = []
        for number, one in enumerate(self._samples):
            part = slice(number, number + 1)
            arguments = fields_BCHW[part], lead_B[part], self._inputs.scalars_BS[part], [one]
            if not ensemble.is_perturbed(one.member):
                answers.append(self._called(*arguments))
                continue
            seed = int(draws(ensemble.seed, one, "network", self._calls).integers(2**63))
            with dropping(self._call_facts.network, seed):
                answers.append(self._called(*arguments))
        return torch.cat(answers)

    def _perturbed(self, state_BCHW: Tensor) -> Tensor:
        """The initial state with what the ensemble adds to it."""
        starts = None if self._ensemble is None else self._ensemble.starts
        if isinstance(starts, NoisyStarts):
            return state_BCHW + starts.scale * self._noise(state_BCHW, "start", 0)
        if isinstance(starts, BredStarts):
            return state_BCHW + self._bred(starts, state_BCHW)
        return state_BCHW

    def _stirred(self, fields_BCHW: Tensor) -> Tensor:
        """The input of a step with noise added to its state."""
        if self._ensemble is None or not self._ensemble.noise:
            return fields_BCHW
        count = self._state_BCHW.shape[1]
        state = fields_BCHW[:, :count]
        noise = self._ensemble.noise * self._noise(state, "step", self._calls)
        return torch.cat([state + noise, fields_BCHW[:, count:]], dim=1)

    def _noise(self, state_BCHW: Tensor, purpose: Literal["start", "step"], step: int) -> Tensor:
        """Standard normal numbers of each perturbed member, 0 where there are no values and for the control."""
        assert self._ensemble is not None
        noise_BCHW = torch.zeros_like(state_BCHW)
        for number, one in enumerate(self._samples):
            if self._ensemble.is_perturbed(one.member):
                generator = draws(self._ensemble.seed, one, purpose, step)
                noise_BCHW[number] = normal(generator, state_BCHW[number])
        return torch.where(self._movable(), noise_BCHW, 0.0)

    def _bred(self, starts: BredStarts, state_BCHW: Tensor) -> Tensor:
        """Differences of two forecasts that have grown fastest, of the size that is asked for."""
        grown_BCHW = starts.scale * self._noise(state_BCHW, "start", 0)
        count, movable = state_BCHW.shape[1], self._movable()
        for cycle in range(starts.cycles):
            step = 0 if starts.in_place else cycle - starts.cycles
            inputs, frame = self._inputs, step * self._inputs.stride
            analysis = inputs.state(frame).nan_to_num(0.0)
            others = [*inputs.earlier(frame), *inputs.valid_forcing(frame + inputs.stride)]
            control, other = (
                self._called(
                    torch.cat([inputs.whole(frame, state), *others], dim=1),
                    self._lead_B,
                    inputs.scalars_BS,
                    self._samples,
                )
                for state in (analysis, analysis + grown_BCHW)
            )
            difference = torch.where(movable, (other - control)[:, :count], 0.0)
            grown_BCHW = difference * (starts.scale / _size(difference, movable))
        return grown_BCHW

    def _movable(self) -> Tensor:
        """(B, C, H, W) where the state has values that forecasts move."""
        held = self._held[self._held < self._valid.shape[1]]
        return self._valid.index_fill(1, held, value=False)

    def _output_mask(self) -> Tensor:
        """(B, C, H, W) where outputs are forecast: prognostic where the initial frame has values, others everywhere.

        Those that are held are forecast nowhere: a frame is 0 there, which is the mean.
        """
        batch, prognostic, *shape = self._valid.shape
        diagnostic = self._valid.new_ones(batch, len(self._domain.outputs) - prognostic, *shape)
        return torch.cat([self._valid, diagnostic], dim=1).index_fill(1, self._held, value=False)

    def _physical(self, frame_BCHW: Tensor) -> Fields:
        outputs = self._domain.outputs
        stored: Fields = self._domain.normalizer(outputs).denormalize(frame_BCHW.float().cpu().numpy())
        physical = transform.to_physical(stored, [variable.transform for variable in outputs])
        valid = self._valid.cpu().numpy()
        physical[:, : valid.shape[1]][~valid] = np.nan
        return self._call_facts.fit.turned(physical)


def _size(fields_BCHW: Tensor, valid_BCHW: Tensor) -> Tensor:
    """(B, 1, 1, 1) root mean square over the points that have values; 1 where all of them are 0, as of the control."""
    total = fields_BCHW.double().square().sum(dim=(1, 2, 3), keepdim=True)
    size = (total / valid_BCHW.sum(dim=(1, 2, 3), keepdim=True).clamp(min=1)).sqrt().float()
    return torch.where(size > 0, size, 1.0)
