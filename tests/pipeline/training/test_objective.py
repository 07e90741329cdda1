"""What a micro-batch's loss is: gradients through rollouts, curriculum, noise, missing values, forcings."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pelagos.models.constraints.clearness import Clearness
from pelagos.models.constraints.conserved_mean import ConservedMean
from pelagos.models.constraints.constrained_dataset import ConstrainedDataset
from pelagos.models.constraints.constrained_step import ConstrainedStep
from pelagos.models.constraints.driven_sides import DrivenSides
from pelagos.models.context import Context
from pelagos.models.layers.conditioning import noise_names, signed_log
from pelagos.models.losses import LossConfig
from pelagos.pipeline.runs.model_folder import VariableScale, signature_of
from pelagos.pipeline.training.objective import Objective, ObjectiveConfig
from pelagos.preprocessing.grid import Grid
from pelagos.preprocessing.layout import Layout
from pelagos.preprocessing.samples.batch import Batch
from pelagos.preprocessing.variables import Variable

GRID = Grid(kind="cartesian", y=np.arange(4.0), x=np.arange(4.0))
STATE = Variable(name="u", role="prognostic")
DEPTH = Variable(name="depth", role="static")
HEATING = Variable(name="heating", role="forcing")


class Growth(nn.Module):
    """Multiplies the state by a number, and adds what the forcing is."""

    def __init__(self, factor: float = 1.5, forced: bool = False) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))
        self.forced = forced
        self.seen: list[Tensor] = []

    def forward(self, x_BCHW: Tensor, lead_time_B: Tensor, context: Context) -> Tensor:
        self.seen.append(x_BCHW.detach().clone())
        return self.factor * lead_time_B[:, None, None, None] * x_BCHW[:, :1] + (
            x_BCHW[:, -1:] if self.forced else 0
        )


def make(steps: int, *, samples: int = 2, missing: bool = False, forced: bool = False) -> Batch:
    """A rollout batch of random numbers."""
    torch.manual_seed(0)
    variables = (STATE, DEPTH, HEATING) if forced else (STATE, DEPTH)
    mask = torch.ones(samples, steps, 1, 4, 4, dtype=torch.bool)
    mask[..., 0] = not missing
    inputs = torch.randn(samples, len(variables), 4, 4)
    return Batch(
        layout=Layout("d", variables, (STATE,), GRID),
        inputs=torch.where(mask[:, 0], inputs, 0) if missing else inputs,
        targets=torch.where(mask, torch.randn(mask.shape), 0),
        mask=mask,
        forcings=torch.randn(samples, steps - 1, int(forced), 4, 4),
        lead_time=torch.ones(samples),
        scalars=torch.empty(samples, 0),
        index=torch.zeros(samples, 3, dtype=torch.int64),
        kind="rollouts",
    )


def objective(batch: Batch, **options: Any) -> Objective:
    loss = LossConfig(kind="mse", area_weights=False).build(batch.layout)
    return ObjectiveConfig(**options).build(signature_of([batch.layout]), {"d": loss})


@pytest.mark.parametrize(("gradient", "tracked"), [("all", 3), (2, 2), ("pushforward", 1), (1, 1), (9, 3)])
def test_gradients_flow_through_the_last_steps_alone(gradient: Any, tracked: int) -> None:
    batch, network = make(3), Growth()
    objective(batch, gradient=gradient).training(network, batch)[0].backward()
    factor = torch.tensor(1.5, requires_grad=True)
    state, wanted = batch.inputs[:, :1] * 1.5 ** (3 - tracked), []
    for k in range(3 - tracked, 3):
        state = factor * state
        wanted.append((state - batch.targets[:, k]).square().mean())
    torch.stack(wanted).mean().backward()
    torch.testing.assert_close(network.factor.grad, factor.grad)


def test_a_rollout_of_one_step_is_a_pair() -> None:
    batch = make(1)
    pair = replace(batch, targets=batch.targets[:, 0], mask=batch.mask[:, 0], kind="pairs")
    trained = objective(batch)
    assert trained.training(Growth(), batch)[0] == trained.training(Growth(), pair)[0]


def test_a_window_is_one_forecast_from_the_initial_frame_for_each_lead_time() -> None:
    lead_time = torch.tensor([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0]])
    batch = replace(make(3), kind="windows", lead_time=lead_time)
    trained = objective(batch)
    pairs = [
        replace(
            batch, kind="pairs", lead_time=lead_time[:, k], targets=batch.targets[:, k], mask=batch.mask[:, k]
        )
        for k in range(3)
    ]
    network = Growth()
    mean = sum(trained.training(network, pair)[0] for pair in pairs) / 3
    torch.testing.assert_close(trained.training(network, batch)[0], mean)


def test_noise_is_on_known_prognostic_values_in_training_alone() -> None:
    batch = make(2, samples=512, missing=True)
    trained = objective(batch, noise=0.3)
    noisy, clean = Growth(), Growth()
    trained.training(noisy, batch)
    trained.validation(clean, batch)
    assert torch.equal(clean.seen[0], batch.inputs)
    difference = noisy.seen[0] - batch.inputs
    assert (difference[:, 1:] == 0).all()
    assert (difference[:, 0, :, 0] == 0).all()
    assert difference[:, 0, :, 1:].std().item() == pytest.approx(0.3, rel=0.02)


def test_noise_follows_from_the_seed_of_the_draws() -> None:
    batch = make(2)
    trained = objective(batch, noise=0.3)
    losses = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        losses.append(trained.training(Growth(), batch)[0].item())
    assert losses[0] == losses[1] != losses[2]


def test_values_that_are_missing_reach_neither_later_steps_nor_the_loss() -> None:
    batch = make(3, missing=True)
    other = replace(batch, targets=batch.targets.where(batch.mask, 1e6))
    trained, network = objective(batch), Growth()
    network.register_forward_hook(lambda module, given, out: out + 7)
    assert trained.validation(network, batch) == trained.validation(network, other)
    assert all((seen[:, 0, :, 0] == 0).all() for seen in network.seen)
    assert (network.seen[1][:, 0, :, 1:] != 0).all()


def test_every_step_starts_from_the_forcing_of_its_time() -> None:
    batch, network = make(3, forced=True), Growth(forced=True)
    objective(batch).validation(network, batch)
    assert torch.equal(network.seen[0], batch.inputs)
    for k in (1, 2):
        assert torch.equal(network.seen[k][:, 2:], batch.forcings[:, k - 1])
        assert torch.equal(network.seen[k][:, 1:2], batch.inputs[:, 1:2])


def test_a_rollout_sees_its_own_frames_as_history_and_the_forcing_of_each_valid_time() -> None:
    batch = make(3, forced=True)
    layout = replace(batch.layout, history=(1, 2), sees_valid_forcing=True)
    inputs, forcings = torch.randn(2, 9, 4, 4), torch.randn(2, 3, 1, 4, 4)
    batch, network = replace(batch, layout=layout, inputs=inputs, forcings=forcings), Growth()
    objective(batch).validation(network, batch)
    frames = [*inputs.split(3, 1)]  # the newest first, as in each input
    for k, seen in enumerate(network.seen):
        assert torch.equal(seen, torch.cat([*frames[:3], forcings[:, k]], 1))
        following = torch.cat([1.5 * frames[0][:, :1], frames[0][:, 1:2], forcings[:, k]], 1)
        frames = [following, *frames]


def test_a_window_sees_the_forcing_of_each_valid_time() -> None:
    batch = make(2, forced=True)
    layout, forcings = replace(batch.layout, sees_valid_forcing=True), torch.randn(2, 2, 1, 4, 4)
    lead_time = torch.tensor([[1.0, 2.0], [1.0, 2.0]])
    batch = replace(batch, layout=layout, forcings=forcings, kind="windows", lead_time=lead_time)
    network = Growth()
    objective(batch).validation(network, batch)
    assert torch.equal(network.seen[0][:, :3], batch.inputs.repeat_interleave(2, 0))
    assert torch.equal(network.seen[0][:, 3:], forcings.flatten(0, 1))


@pytest.mark.parametrize("kind", ["rollouts", "windows"])
def test_radiation_follows_the_sun_of_each_valid_time(kind: Any) -> None:
    batch = make(3, forced=True)
    layout, suns = replace(batch.layout, sees_valid_forcing=True), 1 + torch.rand(2, 3, 1, 4, 4)
    inputs = batch.inputs.clone()
    inputs[:, 2] = 1 + inputs[:, 2].abs()
    batch = replace(batch, layout=layout, inputs=inputs, forcings=suns, kind=kind)
    if kind == "windows":
        batch = replace(batch, lead_time=torch.ones(2, 3))
    scales = {"u": VariableScale(mean=0.0, std=1.0), "heating": VariableScale(mean=1.0, std=1.0)}
    # Means are taken away before fields come here: the sun is 1 more than its channel.
    rule = Clearness(variables=("u",), insolation="heating", low=0.1)
    shining = objective(batch)
    shining.constraints = {"d": ConstrainedStep([rule], ConstrainedDataset(layout, scales))}
    made = inputs[:, None, :1] / (1 + inputs[:, None, 2:]) * (1 + suns)
    loss, _ = shining.training(Growth(1.0), batch)
    torch.testing.assert_close(loss.detach(), (made - batch.targets).square().mean())


@pytest.mark.parametrize("kind", ["mse", "poseidon"])
@pytest.mark.parametrize("form", ["pairs", "windows", "rollouts"])
def test_the_sample_whose_loss_is_no_number_can_be_told(kind: Any, form: Any) -> None:
    batch = replace(make(3, samples=4), kind=form)
    if form == "pairs":
        batch = replace(batch, targets=batch.targets[:, 0], mask=batch.mask[:, 0])
    if form == "windows":
        batch = replace(batch, lead_time=torch.arange(1.0, 4.0).expand(4, -1))
    batch.targets[2] = torch.nan
    loss = {"d": LossConfig(kind=kind).build(batch.layout)}
    total, samples_B = ObjectiveConfig().build(signature_of([batch.layout]), loss).training(Growth(), batch)
    assert not total.isfinite()
    assert samples_B.isfinite().tolist() == [True, True, False, True]


def test_a_rollout_holds_what_the_loss_leaves_out() -> None:
    batch, still = make(3), Variable(name="c", role="prognostic")
    layout = Layout("d", (STATE, still, DEPTH), (STATE, still), GRID, at_rest=frozenset({"c"}))
    inputs = torch.cat([batch.inputs[:, :1], torch.zeros(2, 1, 4, 4), batch.inputs[:, 1:]], 1)
    double = {name: getattr(batch, name).repeat(1, 1, 2, 1, 1) for name in ("targets", "mask")}
    batch = replace(batch, layout=layout, inputs=inputs, **double)

    class Wrong(Growth):
        def forward(self, x_BCHW: Tensor, lead_time_B: Tensor, context: Context) -> Tensor:
            return super().forward(x_BCHW, lead_time_B, context).repeat(1, 2, 1, 1) + 7

    network = Wrong()
    loss = LossConfig(area_weights=False).build(layout)
    ObjectiveConfig().build(signature_of([layout]), {"d": loss}).training(network, batch)
    assert len(network.seen) == 3
    assert all((seen[:, 1] == 0).all() for seen in network.seen)


@pytest.mark.parametrize("kind", ["rollouts", "windows"])
def test_forecasts_obey_before_they_are_scored_and_fed_back(kind: Any) -> None:
    batch = make(3)
    if kind == "windows":
        batch = replace(batch, kind=kind, lead_time=torch.tensor([[1.0, 2.0, 3.0]]).expand(2, 3))
    dataset = ConstrainedDataset(batch.layout, {"u": VariableScale(mean=1.0, std=2.0)})
    step = ConstrainedStep([ConservedMean(variables=("u",))], dataset)
    wanted = objective(batch)
    wanted.constraints = {"d": step}

    class Centred(nn.Module):
        """The same network with the mean of its input: what the constraint makes of it."""

        def forward(self, x_BCHW: Tensor, lead_time_B: Tensor, context: Context) -> Tensor:
            grown = 1.5 * lead_time_B[:, None, None, None] * x_BCHW[:, :1]
            return grown + (x_BCHW[:, :1] - grown).mean((2, 3), keepdim=True)

    torch.testing.assert_close(
        wanted.training(Growth(), batch)[0], objective(batch).training(Centred(), batch)[0]
    )


class Spreading(nn.Module):
    """A normal distribution at every point: a learnt centre and a learnt spread, times the noise of the call."""

    def __init__(self) -> None:
        super().__init__()
        self.factor, self.spread = (nn.Parameter(torch.tensor(value)) for value in (0.0, 0.1))

    def forward(self, x_BCHW: Tensor, lead_time_B: Tensor, context: Context) -> Tensor:
        assert context.scalars is not None
        noise_BZ = signed_log(context.scalars)
        return self.factor * x_BCHW[:, :1] + self.spread * noise_BZ.reshape(len(x_BCHW), 1, 4, 4)


def crps(batch: Batch, members: int, fairness: float = 1.0) -> Objective:
    config = LossConfig(kind="crps", members=members, noise=16, fairness=fairness, area_weights=False)
    signature = signature_of([batch.layout], noise_names(config.num_noise))
    return ObjectiveConfig().build(signature, {"d": config.build(batch.layout)})


@pytest.mark.parametrize("members", [2, 4])
def test_a_network_that_draws_learns_the_spread_of_a_stochastic_process(members: int) -> None:
    """u' = 0.8 u + 0.5 w with normal w: what the almost fair score has to find, of few members too."""
    torch.manual_seed(0)
    network, batch = Spreading(), replace(make(1, samples=64), kind="pairs", lead_time=torch.ones(64))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.05)
    found = []
    for step in range(400):
        state = torch.randn(64, 1, 4, 4)
        batch = replace(
            batch,
            inputs=torch.cat([state, torch.zeros_like(state)], 1),
            targets=0.8 * state + 0.5 * torch.randn(64, 1, 4, 4),
            mask=torch.ones(64, 1, 4, 4, dtype=torch.bool),
        )
        optimizer.zero_grad()
        crps(batch, members).training(network, batch)[0].backward()
        optimizer.step()
        if step >= 200:
            found.append([float(one.detach().abs()) for one in network.parameters()])
    factor, spread = torch.tensor(found).mean(0).tolist()
    assert factor == pytest.approx(0.8, abs=0.02)
    assert spread == pytest.approx(0.5, rel=0.05)


@pytest.mark.parametrize("kind", ["rollouts", "windows"])
def test_members_go_their_own_ways_and_are_scored_with_their_own_sample(kind: Any) -> None:
    batch = make(3)
    if kind == "windows":
        batch = replace(batch, kind=kind, lead_time=torch.tensor([[1.0, 2.0, 3.0]]).expand(2, 3))
    torch.manual_seed(0)
    network = Spreading()
    network.factor.data.fill_(0.7)
    network.spread.data.zero_()
    # Without spread the score is the absolute error of each sample's frames.
    state, error = batch.inputs[:, :1], []
    for k in range(3):
        state = 0.7 * (state if kind == "rollouts" else batch.inputs[:, :1])
        error.append((state - batch.targets[:, k]).abs().mean((1, 2, 3)))
    loss, samples = crps(batch, 3).training(network, batch)
    torch.testing.assert_close(samples, torch.stack(error).mean(0))
    torch.testing.assert_close(loss.detach(), samples.mean())
    # A sample's members differ, from step to step and from one another; validations draw the same each time.
    network.spread.data.fill_(1.0)
    assert float(crps(batch, 3).training(network, batch)[0].detach()) != float(
        crps(batch, 3).training(network, batch)[0].detach()
    )
    one, two = (crps(batch, 3).validation(network, batch).detach() for _ in range(2))
    assert torch.equal(one, two)


@pytest.mark.parametrize("kind", ["rollouts", "windows"])
def test_the_sides_of_a_region_are_those_of_the_target(kind: Any) -> None:
    batch = make(3)
    grid = replace(GRID, boundary_y=("open", "open"), boundary_x=("open", "open"))
    batch = replace(batch, layout=replace(batch.layout, grid=grid), kind=kind)
    if kind == "windows":
        batch = replace(batch, lead_time=torch.tensor([[1.0, 2.0, 3.0]]).expand(2, 3))
    driven = objective(batch)
    driven.constraints = {
        "d": ConstrainedStep(
            [DrivenSides(width=1)], ConstrainedDataset(batch.layout, {"u": VariableScale(mean=0.0, std=1.0)})
        )
    }
    middle = torch.zeros(4, 4)
    middle[1:3, 1:3] = 1
    state, wanted = batch.inputs[:, :1], []
    for k in range(3):
        grown = 1.5 * (state if kind == "rollouts" else (k + 1) * batch.inputs[:, :1])
        state = torch.where(middle > 0, grown, batch.targets[:, k])
        wanted.append((state - batch.targets[:, k]).square().mean())
    loss, _ = driven.training(Growth(), batch)
    torch.testing.assert_close(loss, torch.stack(wanted).mean())
