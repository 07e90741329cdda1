"""States of the network's own among the samples: what they are, what is labelled, what is left out."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pelagos.models.context import Context
from pelagos.models.losses import LossConfig
from pelagos.pipeline.runs.model_folder import signature_of
from pelagos.pipeline.training.equation_labels import EquationLabelsConfig
from pelagos.pipeline.training.informed_objective import InformedObjective
from pelagos.pipeline.training.objective import ObjectiveConfig
from pelagos.preprocessing.errors import ConfigError
from pelagos.preprocessing.samples.batch import Batch
from pelagos.preprocessing.samples.dataset import DatasetConfig

SAMPLES = ("inputs", "targets", "mask", "forcings", "lead_time", "scalars", "index")


class Factor(nn.Module):
    """Multiplies the state, in evaluation alone: in training it is said to be dropped."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x_BCHW: Tensor, lead_time_B: Tensor, context: Context) -> Tensor:
        return x_BCHW[:, :2] * (torch.nan if self.training else self.factor)


def make(store: Path, kind: str = "wave", **values: Any) -> tuple[InformedObjective, Batch]:
    dataset = DatasetConfig(path=store).open()
    config = EquationLabelsConfig.model_validate({"equation": {"kind": kind}, **values})
    loss = LossConfig(kind="mse").build(dataset.layout)
    objective = ObjectiveConfig().build(signature_of([dataset.layout]), {dataset.layout.dataset: loss})
    return InformedObjective(objective, config.build(dataset)), dataset.batch(np.arange(6))


def test_the_first_samples_become_states_of_the_network_with_labels_of_their_own(waves: Path) -> None:
    trained, batch = make(waves, share=0.5, rollout=1)
    found = trained.informed(Factor(0.5).train(), batch)
    torch.testing.assert_close(found.inputs[:3, :2], 0.5 * batch.inputs[:3, :2])
    assert torch.equal(found.inputs[:, 2:], batch.inputs[:, 2:])
    first = replace(batch, **{name: getattr(batch, name)[:3] for name in SAMPLES})
    assert torch.equal(found.targets[:3], trained.labels.targets(first, found.inputs[:3, :2]))
    assert not torch.equal(found.targets[:3], batch.targets[:3])
    assert torch.equal(found.targets[3:], batch.targets[3:])
    assert torch.equal(found.inputs[3:], batch.inputs[3:])
    assert trained.report() == {"equation_labels/states": 3, "equation_labels/dropped": 0}
    assert trained.report() == {"equation_labels/states": 0, "equation_labels/dropped": 0}


@pytest.mark.parametrize("factor", [torch.inf, torch.nan, 1e4])
def test_states_that_blow_up_are_left_out_and_counted(waves: Path, factor: float) -> None:
    trained, batch = make(waves, share=1.0, rollout=2)
    found = trained.informed(Factor(factor), batch)
    assert torch.equal(found.inputs, batch.inputs)
    assert torch.equal(found.targets, batch.targets)
    assert trained.report() == {"equation_labels/states": 6, "equation_labels/dropped": 6}


def test_rollouts_have_up_to_the_longest_number_of_steps_by_the_draws_of_the_run(waves: Path) -> None:
    trained, batch = make(waves, share=0.1, rollout=3)
    found = set[float]()
    for seed in range(20):
        torch.manual_seed(seed)
        ratio = trained.informed(Factor(0.5), batch).inputs[0, :2] / batch.inputs[0, :2]
        found.add(round(float(ratio.mean()), 4))
        torch.manual_seed(seed)
        assert torch.equal(trained.informed(Factor(0.5), batch).inputs[0, :2] / batch.inputs[0, :2], ratio)
    assert found == {0.5, 0.25, 0.125}


def test_the_network_goes_on_in_training_and_is_validated_on_the_data(waves: Path) -> None:
    trained, batch = make(waves)
    network = nn.Sequential(Factor(0.5)).train()
    network[0].eval()
    trained.informed(network[0], batch)
    assert [module.training for module in network.modules()] == [True, False]
    plain = ObjectiveConfig().build(trained.signature, trained.losses)
    assert trained.validation(Factor(0.9).eval(), batch) == plain.validation(Factor(0.9).eval(), batch)


def test_scalars_are_drawn_from_ranges_for_the_networks_own_states_alone(flow: Path) -> None:
    ranges = {"viscosity": {"low": 0.01, "high": 0.1, "scale": "log"}}
    trained, batch = make(flow, "kolmogorov", share=0.5, rollout=1, scalars=ranges)
    network = Factor(0.5).train()
    torch.manual_seed(0)
    found = trained.informed(network, batch)
    column = batch.layout.scalars.index("viscosity")
    drawn, others = found.scalars[:3, column], [n for n in range(batch.scalars.shape[1]) if n != column]
    assert len(drawn.unique()) == 3
    assert drawn.min() >= 0.01
    assert drawn.max() <= 0.1
    assert torch.equal(found.scalars[3:], batch.scalars[3:])
    assert torch.equal(found.scalars[:, others], batch.scalars[:, others])
    # The label is what the equation makes of the new number.
    first = replace(batch, **{name: getattr(batch, name)[:3] for name in SAMPLES})
    first = replace(first, scalars=found.scalars[:3])
    assert torch.equal(found.targets[:3], trained.labels.targets(first, found.inputs[:3, :2]))
    torch.manual_seed(0)
    assert torch.equal(trained.informed(network, batch).scalars, found.scalars)
    # A sample that blows up keeps its own.
    assert torch.equal(trained.informed(Factor(torch.inf), batch).scalars, batch.scalars)


def test_with_other_parameters_frames_of_the_data_are_labelled_as_well(flow: Path) -> None:
    ranges = {"viscosity": {"low": 0.01, "high": 0.1}}
    trained, batch = make(flow, "kolmogorov", share=0.1, rollout=2, scalars=ranges)
    found = set[float]()
    for seed in range(20):
        torch.manual_seed(seed)
        made = trained.informed(Factor(0.5), batch)
        found.add(round(float((made.inputs[0, :2] / batch.inputs[0, :2]).mean()), 4))
        assert not torch.equal(made.targets[0], batch.targets[0])
    assert found == {1, 0.5, 0.25}


@pytest.mark.parametrize(
    ("options", "mixed", "others"),
    [
        ({"static": "mixed"}, slice(2, None), slice(0, 2)),
        ({"states": "mixed"}, slice(0, 2), slice(2, None)),
        # The same two samples in the same shares.
        ({"states": "mixed", "static": "mixed"}, slice(None), slice(0, 0)),
    ],
)
def test_states_and_static_fields_are_mixed_of_two_samples(
    flow: Path, options: dict[str, str], mixed: slice, others: slice
) -> None:
    trained, _ = make(flow, "kolmogorov", share=0.5, rollout=1, **options)
    # Rolled and turned, one trajectory's force is as many as there are samples.
    batch = trained.labels.dataset.batch(np.arange(6), key=(0, 0, 0))
    torch.manual_seed(1)
    found = trained.informed(Factor(1).train(), batch)
    own = batch.inputs[:3, mixed].flatten(1)
    for made in found.inputs[:3, mixed].flatten(1):
        shares = torch.linalg.lstsq(own.T, made, driver="gelsd").solution
        torch.testing.assert_close(shares @ own, made, rtol=0, atol=1e-5)
        assert abs(float(shares.sum()) - 1) < 1e-4
        assert float(shares.min()) > -1e-4
    assert not torch.equal(found.inputs[:3, mixed], batch.inputs[:3, mixed])
    assert torch.equal(found.inputs[:3, others], batch.inputs[:3, others])
    assert torch.equal(found.inputs[3:], batch.inputs[3:])
    first = replace(batch, **{name: getattr(batch, name)[:3] for name in SAMPLES})
    first = replace(first, inputs=found.inputs[:3])
    assert torch.equal(found.targets[:3], trained.labels.targets(first, found.inputs[:3, :2]))


def test_forces_are_drawn_by_the_equation_for_the_networks_own_states_alone(flow: Path) -> None:
    equation = {"kind": "kolmogorov", "wave_numbers": [2], "directions": ["y"], "amplitude": 0.3}
    trained, batch = make(flow, share=0.5, rollout=1, equation=equation, static="drawn")
    torch.manual_seed(1)
    found = trained.informed(Factor(1).train(), batch)
    force = trained.labels.dataset.input_normalizer.denormalize(found.inputs)[:3, 2:]
    torch.testing.assert_close(force[:, 0], torch.zeros_like(force[:, 0]))
    amplitude = torch.fft.rfft(force[:, 1].mean(1), norm="forward").abs() * 2
    wave = torch.zeros_like(amplitude)
    wave[:, 2] = 0.3
    torch.testing.assert_close(amplitude, wave, rtol=0, atol=1e-5)
    assert len(force.flatten(1).unique(dim=0)) == 3
    assert torch.equal(found.inputs[3:], batch.inputs[3:])
    first = replace(batch, **{name: getattr(batch, name)[:3] for name in SAMPLES})
    first = replace(first, inputs=found.inputs[:3])
    assert torch.equal(found.targets[:3], trained.labels.targets(first, found.inputs[:3, :2]))
    # The amplitude over the square root of 2, beside what the store has.
    assert list(trained.labels.remarks)[-1].startswith("force_y is drawn by the equation: 0.212 in root mean")
    torch.manual_seed(1)
    assert torch.equal(trained.informed(Factor(1), batch).inputs, found.inputs)


@pytest.mark.parametrize("static", ["mixed", "drawn"])
def test_an_equation_without_static_fields_has_none_to_renew(waves: Path, static: str) -> None:
    with pytest.raises(ConfigError, match=rf"static={static}: the gray_scott equation takes no static"):
        make(waves, "gray_scott", static=static)
