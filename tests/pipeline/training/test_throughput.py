"""What a run says of its own speed: operations, their share of the peak, samples, bytes, waiting, memory."""

import time
from collections.abc import Generator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from pelagos.models.context import Context
from pelagos.models.losses import LossConfig
from pelagos.pipeline.runs.model_folder import signature_of
from pelagos.pipeline.stages import pretrain
from pelagos.pipeline.tracking.tracker import read_metrics
from pelagos.pipeline.training import trainer
from pelagos.pipeline.training.network_cost import network_cost
from pelagos.pipeline.training.objective import ObjectiveConfig
from pelagos.pipeline.training.throughput import ThroughputMeter
from pelagos.preprocessing.build.build_config import BuildConfig
from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.grid import Grid
from pelagos.preprocessing.layout import Layout
from pelagos.preprocessing.loading.loader import Loader
from pelagos.preprocessing.online.simulation import SimulateConfig, simulate
from pelagos.preprocessing.samples.batch import Batch, LoadedBatch
from pelagos.preprocessing.sources.formats import well_writer
from pelagos.preprocessing.variables import Variable

GRID = Grid(kind="cartesian", y=np.arange(4.0), x=np.arange(4.0))
LAYOUT = Layout("d", (Variable(name="u"),), (Variable(name="u"),), GRID)


class Product(nn.Module):
    """One product of matrices, whose factor is trained, too, so that its backward pass is two."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(16))
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x_BCHW: Tensor, lead_time_B: Tensor, context: Context) -> Tensor:
        return ((self.scale * x_BCHW).flatten(1) @ self.weight).reshape(x_BCHW.shape)


CALL = 2 * 16 * 16
"""Operations of one for a sample."""
PEAK = 1e12


def make(kind: Any = "rollouts", steps: int = 4, samples: int = 3) -> Batch:
    """A batch of random numbers."""
    torch.manual_seed(0)
    frames = (samples, 1, 4, 4) if kind == "pairs" else (samples, steps, 1, 4, 4)
    lead_time = torch.ones(samples, steps) if kind == "windows" else torch.ones(samples)
    return Batch(
        layout=LAYOUT,
        inputs=torch.randn(samples, 1, 4, 4),
        targets=torch.randn(frames),
        mask=torch.ones(frames, dtype=torch.bool),
        forcings=torch.empty(samples, steps - 1, 0, 4, 4),
        lead_time=lead_time,
        scalars=torch.empty(samples, 0),
        index=torch.zeros(samples, 3, dtype=torch.int64),
        kind=kind,
    )


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def operations(objective: ObjectiveConfig, *batches: Batch) -> float:
    """What a meter counts in a second."""
    clock = Clock()
    flops = network_cost(Product(), signature_of([LAYOUT]), [LAYOUT], 3).flops
    meter = ThroughputMeter(flops, objective, peak=1e6, clock=clock)
    meter.count(batches, 0.0)
    clock.now += 1.0
    report = meter.report()
    assert report["utilisation"] == pytest.approx(report["model_teraflops"] * 1e12 / 1e6)
    return report["model_teraflops"] * 1e12


@pytest.mark.parametrize(
    ("kind", "gradient", "passes"),
    [
        ("pairs", "all", 3),
        ("pairs", "pushforward", 3),
        ("windows", "all", 12),
        ("windows", 2, 12),
        ("rollouts", "all", 12),
        ("rollouts", 9, 12),
        ("rollouts", 2, 4 + 2 * 2),
        ("rollouts", "pushforward", 4 + 2),
    ],
)
def test_operations_are_those_of_the_passes_that_are_taken(kind: Any, gradient: Any, passes: int) -> None:
    batch, config, network = make(kind), ObjectiveConfig(gradient=gradient), Product()
    loss = LossConfig(kind="mse", area_weights=False).build(LAYOUT)
    objective = config.build(signature_of([LAYOUT]), {"d": loss})
    with FlopCounterMode(display=False) as counter:
        objective.training(network, batch)[0].backward()
    assert counter.get_total_flops() == passes * len(batch) * CALL
    assert operations(config, batch) == pytest.approx(counter.get_total_flops())


def test_rates_are_counts_by_seconds() -> None:
    clock = Clock()
    meter = ThroughputMeter({}, ObjectiveConfig(), peak=1.0, clock=clock)
    clock.now += 5.0
    meter.start()
    batches = [make("pairs", samples=3), make("rollouts", samples=2)]
    meter.count(batches, 1.5)
    meter.count(batches[:1], 0.5)
    clock.now += 4.0
    report = meter.report()
    assert report["samples_per_second"] * 4.0 == pytest.approx(3 + 2 + 3)
    # Numbers of four bytes: a pair is two frames of sixteen, a rollout an initial one and four later ones.
    assert report["megabytes_per_second"] * 4.0 * 1e6 == pytest.approx((6 * 2 + 2 * 5) * 16 * 4)
    assert report["loader_wait"] == pytest.approx(2.0 / 4.0)


def test_a_network_without_counted_operations_has_no_utilisation() -> None:
    meter = ThroughputMeter({}, ObjectiveConfig(), peak=1.0)
    meter.count([make()], 0.0)
    assert not {"model_teraflops", "utilisation"} & set(meter.report())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_peak_is_measured_where_it_is_not_given(dtype: torch.dtype) -> None:
    given = ThroughputMeter({}, ObjectiveConfig(), peak=3e12, dtype=dtype)
    found = ThroughputMeter({}, ObjectiveConfig(), dtype=dtype)
    assert (given.peak, given.measured, found.measured) == (3e12, False, True)
    assert found.peak > 0


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> pretrain.PretrainStage:
    """A short run on a store of travelling waves."""
    folder = tmp_path_factory.mktemp("meter")
    shape = {"num_trajectories": 4, "shape": (16, 16), "num_frames": 6, "interval": 0.02}
    well_writer.write(simulate(SimulateConfig(equation={"kind": "wave"}, **shape)), folder / "waves.hdf5")
    source = {"kind": "the_well", "paths": str(folder / "waves.hdf5")}
    splits = {"kind": "trajectories", "valid": 1}
    values = {"dataset": "waves", "source": source, "root": str(folder / "stores"), "splits": splits}
    network = {"kind": "fno", "width": 8, "modes": [4, 4], "num_layers": 2}
    return pretrain.PretrainStage.model_validate(
        {
            "output": str(folder / "run"),
            "network": network,
            "data": [{"path": str(build(BuildConfig.model_validate(values)))}],
            "loop": {"steps": 6, "batch_size": 4, "micro_batch": 4, "log_every": 1, "peak_flops": PEAK},
            "tracking": {"uri": f"sqlite:///{folder}/mlflow.db"},
        }
    )


LATE = 0.1


class LateLoader(Loader):
    """A loader each of whose batches is late when it is asked for."""

    def __iter__(self) -> Generator[LoadedBatch, None, None]:
        """See Loader."""
        for batch in super().__iter__():
            time.sleep(LATE)
            yield batch


def test_a_run_tells_its_speed_and_how_long_it_waits_for_data(
    config: pretrain.PretrainStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "Loader", LateLoader)
    began = time.time()
    pretrain.run(config)
    records = [record for record in read_metrics(config.output) if "train/loss" in record]
    assert [record["step"] for record in records] == [1, 2, 3, 4, 5, 6]
    seconds = [4 * record["step"] / record["samples_per_second"] for record in records]
    assert seconds == sorted(seconds)
    for record, elapsed in zip(records, seconds, strict=True):
        assert elapsed < record["time"] - began
        # Six late batches are six waits, whatever else the machine does.
        assert LATE * record["step"] <= record["loader_wait"] * elapsed * (1 + 1e-9)
        assert record["loader_wait"] < 1
        assert record["peak_memory_gigabytes"] > 0.05
        assert 0 < record["utilisation"] == pytest.approx(record["model_teraflops"] * 1e12 / PEAK)
    # All samples are alike, so that bytes and operations go with their number.
    for name in ("megabytes_per_second", "model_teraflops"):
        ratios = [record[name] / record["samples_per_second"] for record in records]
        assert ratios == pytest.approx([ratios[0]] * 6)
    memory = [record["peak_memory_gigabytes"] for record in records]
    assert (np.diff(memory) > -0.001).all()  # the kernel's counts lag by some pages
