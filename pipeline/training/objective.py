"""Objective: the loss of one micro-batch, whose samples are pairs, windows or rollouts.

Shapes: B samples, K forecast steps, P prognostic, S static, F forcing, C output channels, H rows, W columns.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from pelagos.models.constraints.constrained_step import ConstrainedStep
from pelagos.models.context import Context, Signature
from pelagos.models.layers.device_constants import constant
from pelagos.models.layers.noise import draw_noise, with_noise
from pelagos.models.layers.row_layout import RowLayout
from pelagos.models.losses import Loss
from pelagos.models.rollout import InputHistory, rollout
from pelagos.pipeline.runs.model_folder import context_of
from pelagos.pipeline.training.shared_members import ALONE, SharedMembers
from pelagos.preprocessing.config import Config
from pelagos.preprocessing.samples.batch import Batch, Kind
from pelagos.preprocessing.variables import with_role

_UNCONSTRAINED: Mapping[str, ConstrainedStep] = {}
_UNSHARED: Mapping[str, RowLayout] = {}


class ObjectiveConfig(Config):
    """How the network is called in training, beside the loss.

    Attributes:
        noise: standard deviation of Gaussian noise on the prognostic inputs, in normalised units, since later inputs
            of a rollout are not exact either (Sanchez-Gonzalez et al. 2020, arXiv 2002.09405).
        gradient: the steps of a rollout through which gradients flow and that the loss counts: `all`, the last k given
            as a number, or only the last, `pushforward` (Brandstetter et al. 2022, arXiv 2202.03376).
    """

    noise: float = Field(default=0.0, ge=0)
    gradient: Literal["all", "pushforward"] | PositiveInt = "all"

    def tracked(self, kind: Kind, steps: int) -> int:
        """The number of forecast steps through which gradients flow; steps of pairs and windows are independent."""
        if kind != "rollouts" or self.gradient == "all":
            return steps
        return min(steps, 1 if self.gradient == "pushforward" else self.gradient)

    def passes(self, kind: Kind, steps: int) -> int:
        """Operations of training on a sample, as a multiple of those of one forward pass."""
        # A backward pass has two matrix products for each one of the forward pass.
        return steps + 2 * self.tracked(kind, steps)

    def build(
        self,
        signature: Signature,
        losses: Mapping[str, Loss],
        constraints: Mapping[str, ConstrainedStep] = _UNCONSTRAINED,
        rows: Mapping[str, RowLayout] = _UNSHARED,
        members: SharedMembers = ALONE,
    ) -> "Objective":
        """The objective for a network with this signature; losses, constraints and rows are by dataset."""
        return Objective(self, signature, losses, constraints, rows, members)


class Objective:
    """Computes the losses of micro-batches in training and validation."""

    def __init__(
        self,
        config: ObjectiveConfig,
        signature: Signature,
        losses: Mapping[str, Loss],
        constraints: Mapping[str, ConstrainedStep] = _UNCONSTRAINED,
        rows: Mapping[str, RowLayout] = _UNSHARED,
        members: SharedMembers = ALONE,
    ) -> None:
        self.config, self.signature, self.losses = config, signature, losses
        self.constraints, self._rows, self._shared = constraints, rows, members

    def training(self, network: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """The scalar loss, with noise and truncated gradients, and the (B,) losses of the samples."""
        tracked = self.config.tracked(batch.kind, batch.steps)
        return self._mean(network, batch, self._noisy(batch), tracked)

    def validation(self, network: nn.Module, batch: Batch) -> Tensor:
        """The scalar loss without noise on the inputs, over all steps of a rollout; members are the same each time."""
        with torch.random.fork_rng([batch.inputs.device] if batch.inputs.is_cuda else []):
            torch.manual_seed(0)
            # All steps, even where training counts the last alone: scores of different objectives can be compared.
            return self._mean(network, batch, batch.inputs, batch.steps)[0]

    def report(self) -> dict[str, float]:
        """What the log is told besides the losses, since it was last told; all processes ask together."""
        return {}

    def _mean(self, network: nn.Module, batch: Batch, inputs: Tensor, tracked: int) -> tuple[Tensor, Tensor]:
        loss = self.losses[batch.layout.dataset]
        members = _repeated(replace(batch, inputs=inputs), self._num_made(loss))
        if batch.kind == "rollouts":
            frames = enumerate(self._rollout(network, members, members.inputs, tracked))
            first = batch.steps - tracked
            terms = [
                _losses(loss, self._members(loss, f.float(), 1), batch.targets[:, k], batch.mask[:, k])
                for k, f in frames
                if k >= first
            ]
            # The mean over steps, so that a longer rollout does not take larger updates.
            totals, samples = zip(*terms, strict=True)
            return self._shared.share(torch.stack(totals).mean()), torch.stack(samples).mean(0)
        frame = self._direct(network, members, members.inputs)
        shape = (-1, *batch.targets.shape[-3:])
        targets, mask = batch.targets.reshape(shape), batch.mask.reshape(shape)
        total, each = _losses(
            loss, self._members(loss, frame.float(), len(targets) // len(batch)), targets, mask
        )
        return self._shared.share(total), each.reshape(len(batch), -1).mean(1)

    def _direct(self, network: nn.Module, batch: Batch, inputs: Tensor) -> Tensor:
        """(B, C, H, W) forecasts of pairs, (B K, C, H, W) of windows, each from the initial frame."""
        lead, repeats = batch.lead_time.reshape(-1), batch.lead_time[0].numel()
        # Frames of a window go through the network as samples of their own, in one call.
        context = self._context(batch, batch.scalars.repeat_interleave(repeats, 0), lead)
        initial = inputs[:, : len(batch.layout.inputs)].repeat_interleave(repeats, 0)
        fields = inputs.repeat_interleave(repeats, 0)
        ahead = [batch.forcings.flatten(0, 1)] if batch.layout.sees_valid_forcing else []
        fields = torch.cat([fields, *ahead], 1) if ahead else fields
        mask = batch.mask.reshape(-1, *batch.mask.shape[-3:])
        frame = network(fields, lead, self._drawn(context, batch))
        return self._constrained(batch, initial, frame, lead, mask, batch.targets.reshape(mask.shape), *ahead)

    def _context(self, batch: Batch, scalars_BS: Tensor, lead_time_B: Tensor) -> Context:
        context = context_of(self.signature, batch.layout, scalars_BS, lead_time_B)
        rows = self._rows.get(batch.layout.dataset)
        return context if rows is None else replace(context, rows=rows)

    def _drawn(self, context: Context, batch: Batch) -> Context:
        """The context with noise, new for each call, where members of an ensemble are to differ."""
        if self.losses[batch.layout.dataset].members == 1 or context.scalars is None:
            return context
        loss, rows = self.losses[batch.layout.dataset], len(context.scalars)
        drawn_NZ = draw_noise(rows * self._shared.size, self.signature, context.scalars.device)
        noise_BZ = self._shared.own(drawn_NZ, len(batch) // self._num_made(loss))
        return replace(context, scalars=with_noise(context.scalars, noise_BZ, self.signature))

    def _num_made(self, loss: Loss) -> int:
        """How many members of a sample this process makes."""
        return loss.members // self._shared.size

    def _members(self, loss: Loss, frame: Tensor, frames: int) -> Tensor:
        """(B F, M, C, H, W) of this process's members (B m F, C, H, W), F frames each; of a single one as they are."""
        if loss.members == 1:
            return frame
        own = torch.unflatten(frame, 0, (-1, self._num_made(loss), frames)).transpose(1, 2).flatten(0, 1)
        return self._shared.together(own)

    def _constrained(
        self,
        batch: Batch,
        initial_BCHW: Tensor,
        frame_BCHW: Tensor,
        lead_B: Tensor,
        mask_BCHW: Tensor,
        target_BCHW: Tensor,
        valid_BFHW: Tensor | None = None,
    ) -> Tensor:
        """The network's output, made to obey the constraints of its dataset; the target drives the sides of regions."""
        step = self.constraints.get(batch.layout.dataset)
        if step is None or step.is_empty:
            return frame_BCHW
        outside = None
        if step.is_driven:
            prognostic = len(with_role(batch.layout.outputs, "prognostic"))
            outside = torch.where(mask_BCHW, target_BCHW, torch.nan)[:, :prognostic]
        ahead = valid_BFHW if step.sees_valid_forcing else None
        return step(initial_BCHW, frame_BCHW, lead_B, mask_BCHW, outside, ahead)

    def _rollout(self, network: nn.Module, batch: Batch, inputs: Tensor, tracked: int) -> Iterator[Tensor]:
        """(B, C, H, W) forecasts of steps 1, 2, ..., with gradients through the last ones."""
        context = self._context(batch, batch.scalars, batch.lead_time)
        num_prognostic, num_forcing = (
            len(with_role(batch.layout.inputs, role)) for role in ("prognostic", "forcing")
        )
        initial, *before = inputs.split(len(batch.layout.inputs), dim=1)
        state, static, forcing = initial.tensor_split((num_prognostic, initial.shape[1] - num_forcing), dim=1)
        mask = _moving(batch.mask.any(1), self.losses[batch.layout.dataset])
        history, valid = InputHistory(before), iter(batch.forcings.unbind(1))

        targets = iter(batch.targets.unbind(1))

        def advance(fields: Tensor) -> Tensor:
            ahead = [next(valid)] if batch.layout.sees_valid_forcing else []
            drawn = self._drawn(context, batch)
            frame = network(torch.cat([history.join(fields), *ahead], 1), batch.lead_time, drawn)
            history.push(fields)
            return self._constrained(batch, fields, frame, batch.lead_time, mask, next(targets), *ahead)

        return rollout(
            advance,
            state,
            static,
            lambda done: batch.forcings[:, done - 1] if done else forcing,
            mask,
            num_steps=batch.steps,
            gradient=tracked,
        )

    def _noisy(self, batch: Batch) -> Tensor:
        if not self.config.noise:
            return batch.inputs
        num, each = len(with_role(batch.layout.inputs, "prognostic")), len(batch.layout.inputs)
        # Where a value is always missing, the input is zero, and noise would look like a value.
        present = (batch.mask if batch.kind == "pairs" else batch.mask.any(1))[:, :num]
        frames = []
        for frame in batch.inputs.split(each, 1):
            noise = self._noise(frame[:, :num], batch.layout.dataset) * self.config.noise
            frames += [frame[:, :num] + noise * present, frame[:, num:]]
        return torch.cat(frames, 1)

    def _noise(self, fields: Tensor, dataset: str) -> Tensor:
        rows = self._rows.get(dataset)
        if rows is None:
            return torch.randn_like(fields)
        # Drawn for all rows: each process would draw the same for its own otherwise.
        whole = fields.new_empty(*fields.shape[:-2], rows.starts[-1], fields.shape[-1]).normal_()
        return whole[..., rows.own.start : rows.own.stop, :]


def _repeated(batch: Batch, times: int) -> Batch:
    """The batch with each sample so many times in a row."""
    if times == 1:
        return batch
    names = ("inputs", "targets", "mask", "forcings", "lead_time", "scalars")
    return replace(batch, **{name: getattr(batch, name).repeat_interleave(times, 0) for name in names})


def _moving(mask_BCHW: Tensor, loss: Loss) -> Tensor:
    """The mask without channels that the loss leaves out: nothing teaches the network to hold them still."""
    if not loss.left_out:
        return mask_BCHW
    return mask_BCHW.index_fill(1, constant(loss.left_out, mask_BCHW.device), value=False)


def _losses(loss: Loss, forecast: Tensor, target: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """The scalar loss, and the (B,) losses of the samples, detached."""
    if loss.pooled:
        return loss(forecast, target, mask), loss.per_sample(forecast.detach(), target, mask)
    # A loss that is not pooled is the mean over samples: one pass gives both.
    samples_B = loss.per_sample(forecast, target, mask)
    return samples_B.mean(), samples_B.detach()
