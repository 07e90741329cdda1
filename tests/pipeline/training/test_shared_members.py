"""Processes that share the members of samples train as one process does."""

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import processes
import pytest
import small_runs
import torch
import yaml
from pydantic import ValidationError
from torch import Tensor, nn

from pelagos.models.layers.conditioning import noise_names, signed_log
from pelagos.models.losses import LossConfig
from pelagos.pipeline.engine import distributed
from pelagos.pipeline.engine.engine import EngineConfig
from pelagos.pipeline.runs import configuration
from pelagos.pipeline.runs.model_folder import signature_of
from pelagos.pipeline.stages import pretrain
from pelagos.pipeline.stages.pretrain import PretrainStage
from pelagos.pipeline.training.ledger import read_ledger
from pelagos.pipeline.training.objective import Objective, ObjectiveConfig
from pelagos.pipeline.training.shared_members import ALONE, SharedMembers, check_members, share_members
from pelagos.preprocessing.errors import ConfigError
from pelagos.preprocessing.grid import Grid
from pelagos.preprocessing.layout import Layout
from pelagos.preprocessing.samples.batch import Batch
from pelagos.preprocessing.variables import Variable

STEPS, MEMBERS = 2, 4
STATE = Variable(name="u")
LAYOUT = Layout("d", (STATE,), (STATE,), Grid(kind="cartesian", y=np.arange(4.0), x=np.arange(5.0)))


class Drawing(nn.Module):
    """Mixes points, and adds noise of the call by learnt weights."""

    def __init__(self) -> None:
        super().__init__()
        # In a list, as of blocks that networks repeat, which are what ZeRO 3 gathers and `compile: blocks` compiles.
        self.mix, self.spread = nn.ModuleList([nn.Conv2d(1, 1, 3, padding=1)]), nn.Linear(3, 20)

    def forward(self, x_BCHW: Tensor, lead_time_B: Tensor, context: Any) -> Tensor:
        noise_BZ = signed_log(context.scalars).to(x_BCHW)
        spread = self.spread(noise_BZ).reshape(-1, 1, 4, 5)
        out: Tensor = torch.tanh(self.mix[0](x_BCHW)) * (1 + spread) * lead_time_B[:, None, None, None]
        return out


def batch_of(kind: Any, dtype: torch.dtype) -> Batch:
    torch.manual_seed(0)
    shape = (2, 1, 4, 5) if kind == "pairs" else (2, 3, 1, 4, 5)
    mask = torch.rand(shape) > 0.2
    return Batch(
        layout=LAYOUT,
        inputs=torch.randn(2, 1, 4, 5, dtype=dtype),
        targets=torch.where(mask, torch.randn(shape, dtype=dtype), 0),
        mask=mask,
        forcings=torch.empty(2, 2, 0, 4, 5, dtype=dtype),
        lead_time=torch.tensor([[1.0, 2.0, 3.0]] * 2).to(dtype)
        if kind == "windows"
        else torch.ones(2, dtype=dtype),
        scalars=torch.empty(2, 0),
        index=torch.zeros(2, 3, dtype=torch.int64),
        kind=kind,
    )


def objective(members: SharedMembers) -> Objective:
    loss = LossConfig(kind="crps", members=MEMBERS, noise=3)
    signature = signature_of([LAYOUT], noise_names(3))
    return ObjectiveConfig().build(signature, {"d": loss.build(LAYOUT)}, members=members)


class Meeting:
    """Threads in place of processes, which gather tensors from each other."""

    def __init__(self, size: int) -> None:
        self.size, self.barrier = size, threading.Barrier(size)
        self.left: list[Tensor] = [torch.empty(0)] * size

    def gather(self, rank: int) -> Callable[[Tensor], Tensor]:
        def gathered(x: Tensor) -> Tensor:
            self.left[rank] = x
            self.barrier.wait()
            found = torch.stack(self.left)
            self.barrier.wait()
            return found

        return gathered


def trained(network: nn.Module, batch: Batch, members: SharedMembers) -> tuple[Tensor, Tensor, list[Tensor]]:
    loss, samples_B = objective(members).training(network, batch)
    gradients = torch.autograd.grad(loss, list(network.parameters()))
    return loss.detach(), samples_B, list(gradients)


@pytest.mark.parametrize("kind", ["pairs", "windows", "rollouts"])
@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize(("dtype", "digits"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_loss_and_mean_gradient_are_those_of_one_process(
    kind: Any, size: int, dtype: torch.dtype, digits: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch, network = batch_of(kind, dtype), Drawing().to(dtype)
    # The generator is one of the whole process, not of a thread: noise comes from a list.
    noise = torch.randn(3, 100, 3, dtype=dtype)
    turns = threading.local()

    def draw(rows: int, *_: Any) -> Tensor:
        turns.number = getattr(turns, "number", -1) + 1
        return noise[turns.number, :rows]

    monkeypatch.setattr("pelagos.pipeline.training.objective.draw_noise", draw)
    monkeypatch.setattr(Tensor, "float", lambda self: self)  # which would end double precision
    loss, samples_B, gradients = trained(network, batch, ALONE)
    meeting, found = Meeting(size), dict[int, Any]()

    def process(rank: int) -> None:
        found[rank] = trained(network, batch, SharedMembers(rank, size, meeting.gather(rank)))

    threads = [threading.Thread(target=process, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for rank in range(size):
        torch.testing.assert_close(found[rank][0], loss, rtol=digits, atol=digits)
        torch.testing.assert_close(found[rank][1], samples_B, rtol=digits, atol=digits)
    for number, wanted in enumerate(gradients):
        mean = torch.stack([found[rank][2][number] for rank in range(size)]).mean(0)
        torch.testing.assert_close(mean, wanted, rtol=digits, atol=digits)


def program(file: str) -> None:
    """What each process does: some steps at each ZeRO stage, and with compiled blocks."""
    distributed.start()
    # The same graphs without a C++ compiler, which takes a hundred times as long.
    compile_module = nn.Module.compile
    nn.Module.compile = lambda module, **_: compile_module(module, backend="eager")  # type: ignore[method-assign]
    found = [steps_of_two(zero_stage=stage) for stage in (0, 1, 2, 3)]
    found.append(steps_of_two(zero_stage=1, compile="blocks"))
    if distributed.rank() == 0:
        Path(file).write_text(json.dumps(found))
    distributed.stop()


def steps_of_two(**values: Any) -> list[float]:
    """Losses of steps in which two processes share members."""
    torch.manual_seed(0)
    network, config = Drawing(), EngineConfig(domain=2, shared="members", clip=0, **values)
    members = share_members(network, MEMBERS, config.member_processes)
    engine = config.build(network, torch.optim.AdamW(network.parameters(), lr=1e-2), 2, 1)
    step, batch = objective(members).training, batch_of("rollouts", torch.float32)
    losses = []
    for number in range(4):
        torch.manual_seed(number)
        losses.append(engine.step([lambda net: step(net, batch)[0]], lambda _: 1e-2).loss)
    return losses


def test_members_are_shared_at_every_zero_stage_and_by_compiled_blocks(tmp_path: Path) -> None:
    processes.run(Path(__file__), "program", 2, {"file": str(tmp_path / "losses.json")})
    torch.manual_seed(0)
    network, wanted = Drawing(), []
    optimizer, batch = torch.optim.AdamW(network.parameters(), lr=1e-2), batch_of("rollouts", torch.float32)
    for number in range(4):
        torch.manual_seed(number)
        loss, _ = objective(ALONE).training(network, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        wanted.append(loss.item())
    found = json.loads((tmp_path / "losses.json").read_text())
    np.testing.assert_allclose(found, [wanted] * 5, rtol=1e-5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("members")
    small_runs.prepare(path, STEPS)
    file = path / "train.yaml"
    values = yaml.safe_load(file.read_text())
    values["network"] = {"kind": "unet", "dims": [4], "depth": 1}
    values["loss"] = {"kind": "crps", "members": 2, "noise": 2}
    values["data"][0]["sampling"] = {"kind": "rollouts", "steps": 2}
    values["optimizer"] = {"lr": 1e-2, "eps": 1e-2}
    values["loop"] |= {"batch_size": 4, "micro_batch": 2, "validate_every": 2}
    file.write_text(yaml.safe_dump(values))
    return path


def test_two_processes_share_the_members_of_a_run(folder: Path) -> None:
    alone = folder / "alone"
    pretrain.run(configuration.load(folder / "train.yaml", [f"output={alone}"], PretrainStage))
    shared = small_runs.finish(
        folder, "shared", 2, "engine.domain=2", "engine.shared=members", "engine.zero_stage=2"
    )
    mine, wanted = small_runs.losses(shared), small_runs.losses(alone)
    assert sorted(mine) == sorted(wanted) == list(range(1, STEPS + 1))
    np.testing.assert_allclose([mine[step] for step in wanted], list(wanted.values()), rtol=1e-5)
    for key, tensor in small_runs.weights(alone).items():
        torch.testing.assert_close(small_runs.weights(shared)[key], tensor, rtol=1e-4, atol=1e-5)
    assert read_ledger(shared / "ledger") == read_ledger(alone / "ledger")


def test_what_has_no_members_to_share_is_refused(folder: Path) -> None:
    values = yaml.safe_load((folder / "train.yaml").read_text()) | {"output": str(folder / "refused")}
    values["engine"] = {"domain": 2, "shared": "members"}
    PretrainStage.model_validate(values)
    with pytest.raises(ValidationError, match=r"loss\.kind: mse has none of; crps would be right"):
        PretrainStage.model_validate({**values, "loss": {"kind": "mse"}})
    with pytest.raises(ConfigError, match="3 processes cannot make the same number of 4 members"):
        check_members(Drawing(), 4, 3)
    with pytest.raises(ConfigError, match="1 drops activations at random, on all processes the same"):
        check_members(nn.Sequential(Drawing(), nn.Dropout(0.1)), 4, 2)
    check_members(nn.Sequential(Drawing(), nn.Dropout(0.1)), 4, 1)
