"""Informed objective: some samples of each micro-batch start from states of the network's own, labelled by an equation.

Nothing is kept from one micro-batch to the next: the states follow from the weights, the samples and draws by the
position in the run, so that an interrupted run goes on to the last bit.

Shapes: B samples, K forecast steps, P prognostic channels, H rows, W columns.
"""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn

from pelagos.pipeline.engine import distributed
from pelagos.pipeline.training.equation_labels import EquationLabels
from pelagos.pipeline.training.objective import Objective
from pelagos.preprocessing.samples.batch import Batch
from pelagos.preprocessing.variables import with_role


class InformedObjective(Objective):
    """An objective that trains on states of the network's rollouts beside the data; validation is the data's alone."""

    def __init__(self, objective: Objective, labels: EquationLabels) -> None:
        super().__init__(objective.config, objective.signature, objective.losses, objective.constraints)
        self.labels = labels
        self._made, self._dropped = 0, list[Tensor]()

    def training(self, network: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """See Objective.training."""
        return super().training(network, self.informed(network, batch))

    @torch.no_grad()
    def informed(self, network: nn.Module, batch: Batch) -> Batch:
        """The batch with the first samples in states of the network's own, but for those that blow up."""
        first = slice(self.labels.config.labelled(len(batch)))
        chosen = _part(batch, first)
        chosen = replace(
            chosen,
            scalars=self.labels.drawn_scalars(chosen),
            inputs=self.labels.renewed(chosen.inputs),
        )
        state_BPHW = self._reached(network, chosen)
        targets = self.labels.targets(chosen, state_BPHW)
        sound_B = self._sound(state_BPHW) & self._sound(targets)
        self._made += len(chosen)
        self._dropped.append((~sound_B).sum())
        # Static fields follow the state.
        inputs = torch.cat([state_BPHW, chosen.inputs[:, state_BPHW.shape[1] :]], 1)

        def with_sound(whole: Tensor, made: Tensor) -> Tensor:
            kept = torch.where(_column(sound_B, made), made, whole[first])
            return torch.cat([kept, whole[first.stop :]])

        return replace(
            batch,
            inputs=with_sound(batch.inputs, inputs),
            targets=with_sound(batch.targets, targets),
            scalars=with_sound(batch.scalars, chosen.scalars),
        )

    def report(self) -> dict[str, float]:
        """See Objective.report: how many states were made, and how many of them blew up and were left out."""
        dropped = float(sum(self._dropped))
        made, dropped = distributed.all_sum([float(self._made), dropped])
        self._made, self._dropped = 0, []
        return {"equation_labels/states": made, "equation_labels/dropped": dropped}

    def _reached(self, network: nn.Module, batch: Batch) -> Tensor:
        """(B, P, H, W) normalised states some steps of the shortest lead time after the samples' initial frames."""
        config, prognostic = self.labels.config, len(with_role(batch.layout.inputs, "prognostic"))
        # Torch is seeded by the micro-batch's number; on the host, where draws are the same with any device.
        steps = int(torch.randint(0 if config.draws else 1, config.rollout + 1, (), device="cpu"))
        if not steps:
            return batch.inputs[:, :prognostic].float()
        frames_B, factor_B = self.labels.frames(batch)
        dataset = self.labels.dataset
        lead_B = factor_B * (dataset.sampling.spacing * dataset.store.dt / batch.layout.time_scale)
        outputs = (len(batch), steps, *batch.targets.shape[-3:])
        rolled = replace(
            batch,
            kind="rollouts",
            # Only regions with driven sides would look at targets, and these have no periodic equation.
            targets=batch.targets.new_zeros(()).expand(outputs),
            mask=torch.ones((), dtype=torch.bool, device=frames_B.device).expand(outputs),
            forcings=batch.forcings.new_empty(len(batch), steps - 1, 0, *batch.inputs.shape[-2:]),
            lead_time=lead_B.to(batch.lead_time),
        )
        with _evaluating(network):
            [last] = deque(self._rollout(network, rolled, rolled.inputs, 1), maxlen=1)
        return last[:, :prognostic].float()

    def _sound(self, fields: Tensor) -> Tensor:
        """(B,) whether all values are finite and below the limit; NaN compares as false."""
        return (fields.abs() <= self.labels.config.limit).flatten(1).all(1)


def _part(batch: Batch, rows: slice) -> Batch:
    names = ("inputs", "targets", "mask", "forcings", "lead_time", "scalars", "index")
    return replace(batch, **{name: getattr(batch, name)[rows] for name in names})


def _column(flags_B: Tensor, fields: Tensor) -> Tensor:
    return flags_B.reshape(-1, *[1] * (fields.ndim - 1))


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    """The network as forecasts call it, without dropout."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
