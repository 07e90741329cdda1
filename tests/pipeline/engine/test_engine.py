"""The engine: training does not depend on how it is spread, and continues where it stopped."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import processes
import pytest
import torch
from torch.overrides import TorchFunctionMode

from pelagos.models.layers.precision import Linear
from pelagos.models.losses import LossConfig
from pelagos.models.networks.scot.scot import ScOTConfig
from pelagos.pipeline.checking.model_states import model_states
from pelagos.pipeline.engine import checkpoint, checkpoint_writer, distributed
from pelagos.pipeline.engine.collective_network import CollectiveNetwork
from pelagos.pipeline.engine.engine import Engine, EngineConfig
from pelagos.pipeline.engine.zero import largest_layer
from pelagos.pipeline.runs.model_folder import signature_of
from pelagos.pipeline.training.objective import ObjectiveConfig
from pelagos.preprocessing.errors import ConfigError
from pelagos.preprocessing.grid import Grid
from pelagos.preprocessing.layout import Layout
from pelagos.preprocessing.samples.batch import Batch
from pelagos.preprocessing.variables import Variable

STEPS, BATCH = 6, 24
STAGES = (0, 1, 2, 3)


class Branched(torch.nn.Module):
    """Two layers and a branch that only some steps use."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = Linear(5, 16), torch.nn.Linear(16, 3)
        self.branch = torch.nn.Linear(5, 16)

    def forward(self, x: torch.Tensor, branch: bool) -> torch.Tensor:
        """(B, 5) to (B, 3)."""
        hidden = self.first(x) + (self.branch(x) if branch else 0)
        out: torch.Tensor = self.last(torch.nn.functional.gelu(hidden))
        return out


def note_dtype(seen: set[torch.dtype], layer: torch.nn.Module, _: object) -> None:
    """Note the type of a layer's weight."""
    assert isinstance(layer.weight, torch.Tensor)
    seen.add(layer.weight.dtype)


class Residual(torch.nn.Module):
    """A block as networks repeat it."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = torch.nn.Linear(16, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 16) to (B, 16)."""
        out: torch.Tensor = x + self.inner(x).tanh()
        return out


class Stack(torch.nn.Module):
    """Sixteen equal blocks, and a layer as large before them."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Linear(16, 16)
        self.layers = torch.nn.ModuleList(Residual() for _ in range(16))
        self.look: Callable[..., None] = lambda *_: None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 16) to (B, 16)."""
        x = self.first(x)
        for layer in self.layers:
            x = layer(x)
            # In the pass back, between the layers' own.
            x.register_hook(self.look)
        return x


class Bare(torch.nn.Module):
    """Blocks that read the network's input themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList(Residual() for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 16) to (B, 16)."""
        for layer in self.layers:
            x = layer(x)
        return x


class Keeping(EngineConfig):
    """ZeRO 3 by DeepSpeed's defaults, which keep what is gathered."""

    def deepspeed(self, micro_batch: int, accumulation: int, world: int, elements: int) -> dict[str, Any]:
        """See EngineConfig."""
        values = super().deepspeed(micro_batch, accumulation, world, elements)
        for name in ("prefetch_bucket_size", "max_live_parameters", "max_reuse_distance"):
            del values["zero_optimization"][f"stage3_{name}"]
        return values


def mean_square(x: torch.Tensor, network: torch.nn.Module) -> torch.Tensor:
    """The loss of a step of a stack."""
    loss: torch.Tensor = network(x).square().mean()
    return loss


def steps_of_a_stack(config: type[EngineConfig]) -> dict[str, Any]:
    """Losses of steps at ZeRO 3, and the elements that are whole at most in each of them and after it."""
    torch.manual_seed(0)
    network, most = Stack(), [0]
    largest = largest_layer(network)
    engine = config(zero_stage=3).build(network, torch.optim.AdamW(network.parameters(), lr=1e-2), 2, 1)
    weights: list[Any] = list(network.parameters())

    def whole(*_: object) -> int:
        now = sum(int(one.ds_numel) for one in weights if one.ds_status.name != "NOT_AVAILABLE")
        most[0] = max(most[0], now)
        return now

    def look(*_: object) -> None:
        whole()

    network.look = look
    for layer in network.layers:
        # DeepSpeed's hook was there before: this one looks when it has gathered a layer.
        layer.register_forward_pre_hook(look)
    found: dict[str, Any] = {
        "losses": [],
        "most": [],
        "after": [],
        "layer": largest,
        "bound": model_states(EngineConfig(), 3, 2, 17 * 272, layer=272, ema=False, accumulation=1).buffers
        / 4,
    }
    for step in range(4):
        x = torch.randn(2, 16, generator=torch.Generator().manual_seed(step))
        most[0] = 0
        info = engine.step([partial(mean_square, x)], lambda group: 1e-2)
        found["losses"].append(info.loss)
        found["most"].append(most[0])
        found["after"].append(whole())
    return found


def losses_of_bare_blocks(zero_stage: int) -> list[float]:
    """Of steps of blocks whose first has inputs without a gradient."""
    torch.manual_seed(0)
    network = Bare()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    engine = EngineConfig(zero_stage=zero_stage).build(network, optimizer, 2, 2)
    x = torch.randn(2, 2, 2, 16)[distributed.rank()]
    tasks = [partial(mean_square, part) for part in x]
    return [distributed.all_sum([engine.step(tasks, lambda group: 1e-2).loss])[0] for _ in range(4)]


def program(runs: list[dict[str, Any]], gathered: str = "") -> None:
    """What each process does: one run after the other."""
    distributed.start()
    peers = checkpoint_writer.Peers()
    if gathered:
        Path(gathered).write_text(
            json.dumps([steps_of_a_stack(config) for config in (EngineConfig, Keeping)])
        )
        bare = [losses_of_bare_blocks(stage) for stage in STAGES]
        Path(gathered).with_name("bare.json").write_text(json.dumps(bare))
    for arguments in runs:
        train(**arguments, peers=peers)
    distributed.stop()


def train(
    folder: str,
    name: str,
    zero_stage: int,
    start: int,
    stop: int,
    after: str = "",
    precision: str = "float32",
    poison: bool = False,
    like_gpu: bool = False,
    lend: bool = False,
    weights: str = "float32",
    *,
    peers: checkpoint_writer.Peers,
) -> None:
    """Steps start to stop of a small run, after the state of another; keeps losses and states by name."""
    if like_gpu:
        # On a GPU this answers for the device; DeepSpeed asks it whether there is an autocast to switch off.
        torch.is_autocast_enabled = lambda device="cpu": torch._C._is_any_autocast_enabled()
    torch.manual_seed(0)
    network = Branched()
    groups = [
        {"params": [*network.first.parameters(), *network.branch.parameters()], "peak": 1e-2},
        {"params": network.last.parameters(), "peak": 3e-3},
    ]
    optimizer = torch.optim.AdamW(groups, lr=1e-2, weight_decay=0.1)
    values = {"zero_stage": zero_stage, "clip": 0.5, "precision": precision, "weights": weights}
    config = EngineConfig.model_validate(values)
    world, rank = distributed.world(), distributed.rank()
    engine = config.build(network, optimizer, 2, BATCH // 2 // world)
    if start:
        engine.load(checkpoint.saved_tensors(checkpoint.path_of(Path(folder, after), start))[0], start)
    losses = []
    for step in range(start, stop):
        x = torch.randn(BATCH, 5, generator=torch.Generator().manual_seed(step))
        blocks = x.split(2)[rank::world]
        tasks = [
            lambda net, block=block, step=step: (
                (net(block, step % 2 == 0) - block[:, :3].sin()).square().mean()
            )
            for block in blocks
        ]
        if poison and step == 3:
            # In one micro-batch of one process.
            bad = [*tasks[:-1], lambda net, task=tasks[-1]: task(net) / (rank != 0)]
            assert not np.isfinite(engine.step(bad, lambda group: group["peak"]).grad_norm)
        seen = set[torch.dtype]()
        watch = network.first.register_forward_pre_hook(partial(note_dtype, seen))
        info = engine.step(tasks, lambda group, step=step: group["peak"] * (1 - step / STEPS))  # type: ignore[misc]  # a default binds the loop's value
        watch.remove()
        assert seen == {torch.bfloat16 if weights == "bfloat16" else torch.float32}
        losses.append([distributed.all_sum([info.loss / world])[0], info.grad_norm])
        if lend:
            losses[-1] += outputs_of_a_third(engine, step)
    if rank == 0:
        Path(f"{folder}/{name}.json").write_text(json.dumps(losses))
    share = engine.saved(engine.shares(), {"weights": engine.others()}, copied=False)
    checkpoint_writer.save(Path(folder, name), stop, share, {}, peers)
    distributed.barrier()


@torch.no_grad()
def outputs_of_a_third(engine: Engine, step: int) -> list[float]:
    """Sums of what the network gives with a third of its weights; the last process calls it once more."""
    weights = [partition.detach() / 3 for partition in engine.partitions]
    kept = [weight.clone() for weight in weights]
    x = torch.randn(4, 5, generator=torch.Generator().manual_seed(step))
    with engine.lent(weights) as network:
        assert not any(m.training for m in network.modules() if isinstance(m, torch.nn.Linear))
        found = [float(network(x, step % 2 == 0).sum())]
        if distributed.rank() == distributed.world() - 1:
            found.append(float(network(x, step % 2 == 0).sum()))
        if isinstance(network, CollectiveNetwork):
            network.finish()
    assert len(set(found)) == 1
    assert all(torch.equal(a, b) for a, b in zip(weights, kept, strict=True))
    return found[:1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of two processes, then runs of one that continue them."""
    path = tmp_path_factory.mktemp("engine")

    def run(name: str, zero_stage: int, start: int, stop: int, **more: object) -> dict[str, Any]:
        return {
            "folder": str(path),
            "name": name,
            "zero_stage": zero_stage,
            "start": start,
            "stop": stop,
            **more,
        }

    two = [run("two", 1, 0, STEPS)]
    two += [run(f"head{stage}", stage, 0, 3) for stage in STAGES]
    two += [run(f"again{stage}", stage, 3, STEPS, after=f"head{stage}") for stage in STAGES]
    two += [run(f"tail{stage}", (stage + 1) % 4, 3, STEPS, after=f"head{stage}") for stage in STAGES]
    two += [run(f"whole{stage}", stage, 0, STEPS) for stage in STAGES]
    two += [run(f"lent{stage}", stage, 0, STEPS, lend=True) for stage in STAGES]
    two += [run(f"poisoned{stage}", stage, 0, STEPS, poison=True) for stage in STAGES]
    for stage in (0, 1, 2):
        low = {"precision": "bf16", "weights": "bfloat16"}
        two += [run(f"low_head{stage}", stage, 0, 3, **low), run(f"low_whole{stage}", stage, 0, STEPS, **low)]
        two += [run(f"low_again{stage}", stage, 3, STEPS, after=f"low_head{stage}", lend=True, **low)]
    # The last run of its processes: what it pretends stays.
    two += [run("bf16_three", 3, 0, STEPS, precision="bf16", like_gpu=True)]
    one = [run("one", 0, 0, STEPS), run("bf16", 1, 0, STEPS, precision="bf16")]
    one += [run(f"alone{stage}", 0, 3, STEPS, after=f"head{stage}") for stage in STAGES]
    three = [run(f"three{stage}", stage, 3, STEPS, after=f"head{stage}") for stage in STAGES]
    for count, runs in ((2, two), (1, one), (3, three)):
        gathered = str(path / "gathered.json") if count == 2 else ""
        processes.run(Path(__file__), "program", count, {"runs": runs, "gathered": gathered})
    return path


def losses(folder: Path, *names: str) -> np.ndarray:
    """(steps, 2) losses and gradient norms of runs that follow each other."""
    return np.concatenate([np.array(json.loads((folder / f"{name}.json").read_text())) for name in names])


def test_two_processes_train_like_one(folder: Path) -> None:
    # Sums over processes are rounded in another order: float32 leaves about 1e-7 a step.
    np.testing.assert_allclose(losses(folder, "two"), losses(folder, "one"), rtol=2e-5)


@pytest.mark.parametrize("name", ["tail", "alone", "three"])
@pytest.mark.parametrize("zero_stage", STAGES)
def test_training_continues_on_other_processes_and_another_zero_stage(
    folder: Path, zero_stage: int, name: str
) -> None:
    spread = losses(folder, f"head{zero_stage}", f"{name}{zero_stage}")
    np.testing.assert_allclose(spread, losses(folder, "one"), rtol=2e-5)


@pytest.mark.parametrize("zero_stage", STAGES)
def test_the_same_layout_continues_with_identical_losses(folder: Path, zero_stage: int) -> None:
    continued = losses(folder, f"head{zero_stage}", f"again{zero_stage}")
    np.testing.assert_array_equal(continued, losses(folder, f"whole{zero_stage}"))


@pytest.mark.parametrize("zero_stage", STAGES)
def test_lending_the_network_other_weights_leaves_training_as_it_was(folder: Path, zero_stage: int) -> None:
    lent = losses(folder, f"lent{zero_stage}")
    np.testing.assert_array_equal(lent[:, :2], losses(folder, f"whole{zero_stage}"))
    np.testing.assert_allclose(lent[:, 2], losses(folder, "lent0")[:, 2], rtol=2e-5)


@pytest.mark.parametrize("zero_stage", STAGES)
def test_a_gradient_that_is_not_finite_moves_nothing(folder: Path, zero_stage: int) -> None:
    poisoned = losses(folder, f"poisoned{zero_stage}")
    np.testing.assert_array_equal(poisoned, losses(folder, f"whole{zero_stage}"))


@pytest.mark.parametrize("zero_stage", STAGES)
def test_the_state_is_whole_at_every_stage(folder: Path, zero_stage: int) -> None:
    whole, one = (
        checkpoint.load(checkpoint.path_of(folder / name, STEPS))[0] for name in (f"whole{zero_stage}", "one")
    )
    assert whole.keys() == one.keys() == {"weights", "moments"}
    for kind, wanted in one.items():
        assert whole[kind].keys() == wanted.keys()
        for name, tensor in wanted.items():
            torch.testing.assert_close(whole[kind][name], tensor, rtol=2e-4, atol=1e-7)


def test_weights_are_gathered_for_some_layers_at_a_time(folder: Path) -> None:
    found, keeping = json.loads((folder / "gathered.json").read_text())
    layer, count = 272, 17
    assert keeping["most"][1:] == [count * layer] * 3, "else nothing would be shown here"
    # Those fetched ahead, and the one that computes; in the first step DeepSpeed does not know yet what comes next.
    assert layer <= max(found["most"]) <= 3 * layer
    assert found["after"] == [0] * 4
    assert found["losses"] == keeping["losses"]
    assert found["layer"] == layer
    bucket = count * layer // 4
    assert max(found["most"]) <= found["bound"] - bucket < 4 * layer


def test_blocks_that_read_the_networks_input_train_alike_at_every_stage(folder: Path) -> None:
    found = np.array(json.loads((folder / "bare.json").read_text()))
    np.testing.assert_allclose(found, found[[0] * len(STAGES)], rtol=2e-5)
    assert (np.diff(found) < 0).all()


def test_bf16_follows_float32_at_its_own_precision(folder: Path) -> None:
    full, half = losses(folder, "one")[:, 0], losses(folder, "bf16")[:, 0]
    assert not np.array_equal(full, half)
    np.testing.assert_allclose(half, full, rtol=0.02)


@pytest.mark.parametrize("zero_stage", [0, 1, 2])
def test_bf16_weights_have_a_float32_master(folder: Path, zero_stage: int) -> None:
    whole = losses(folder, f"low_whole{zero_stage}")
    again = losses(folder, f"low_again{zero_stage}")
    np.testing.assert_array_equal(again[:, :2], whole[3:])
    np.testing.assert_allclose(whole[:, 0], losses(folder, "one")[:, 0], rtol=0.02)
    # A rounding of a weight to bf16 that the order of a sum decides: 3 digits of some products.
    np.testing.assert_allclose(whole, losses(folder, "low_whole0"), rtol=5e-3)
    saved = checkpoint.load(checkpoint.path_of(folder / f"low_whole{zero_stage}", STEPS))[0]["weights"]
    weight = saved["first.weight"]
    assert weight.dtype == torch.float32
    assert not torch.equal(weight, weight.bfloat16().float())


def test_bf16_weights_where_they_cannot_be_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def build(network: torch.nn.Module, **engine: Any) -> None:
        values = {"weights": "bfloat16", "precision": "bf16", **engine}
        EngineConfig.model_validate(values).build(network, torch.optim.AdamW(network.parameters()), 1, 1)

    with pytest.raises(ConfigError, match=r"weights: bfloat16 needs engine\.precision: bf16"):
        build(Branched(), precision="float32")
    with pytest.raises(ConfigError, match=r"a Linear has no linear layers of Pelagos's own"):
        build(torch.nn.Linear(1, 1))
    monkeypatch.setattr(distributed, "world", lambda: 2)
    with pytest.raises(ConfigError, match=r"bfloat16 is for ZeRO 0 to 2"):
        build(Branched(), zero_stage=3)


def test_zero_three_trains_in_bf16_where_deepspeed_switches_an_outer_autocast_off(folder: Path) -> None:
    # Were the layers in float32, the run would end with a PrecisionError, and agree with "one" to 1e-5.
    np.testing.assert_allclose(losses(folder, "bf16_three"), losses(folder, "bf16"), rtol=2e-2)
    assert np.abs(losses(folder, "bf16_three") / losses(folder, "one") - 1).max() > 1e-4


def test_batch_norms_that_would_differ_between_processes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "world", lambda: 2)
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 1), torch.nn.BatchNorm2d(2))
    optimizer = torch.optim.AdamW(network.parameters())
    with pytest.raises(ConfigError, match=r"1 batch norms \(1, \.\.\.\) would differ between 2 processes"):
        EngineConfig().build(network, optimizer, 1, 1)


def test_frozen_weights_that_zero_three_would_lose_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "world", lambda: 2)
    network = Branched()
    network.first.requires_grad_(False)
    optimizer = torch.optim.AdamW(network.last.parameters())
    with pytest.raises(ConfigError, match=r"zero_stage: 3 cannot train a network with 2 frozen weights"):
        EngineConfig(zero_stage=3).build(network, optimizer, 1, 1)


class HostWaits(TorchFunctionMode):
    """Counts what makes a host wait for its device, where all tensors but those of lists pretend to be on one.

    Attributes:
        found: the names of the calls.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run a function of torch, and count it where it copies between host and device."""
        name, values = getattr(func, "__name__", ""), kwargs or {}
        reads = name in {
            "item",
            "tolist",
            "numpy",
            "cpu",
            "nonzero",
            "__bool__",
            "__float__",
            "__int__",
            "equal",
        }
        index = args[1] if name in {"__getitem__", "__setitem__"} else ()
        parts = index if isinstance(index, tuple) else (index,)
        listed = any(isinstance(part, list) for part in parts)
        masked = any(isinstance(part, torch.Tensor) and part.dtype == torch.bool for part in parts)
        # A tensor of the host's values; without a device it stays there.
        copied = name in {"tensor", "as_tensor"} and values.get("device") is not None
        copied = copied and not isinstance(args[0], torch.Tensor)
        if reads or listed or masked or copied:
            self.found.append(name)
        return func(*args, **values)


def count_waits(folder: str, zero_stage: int) -> None:
    """Takes steps of a rollout of 70 channels, and keeps what the last one waited for."""
    distributed.start()
    names = [f"v{number}" for number in range(70)]
    variables = tuple(Variable(name=name, role="prognostic") for name in names)
    grid = Grid(kind="cartesian", y=np.arange(8.0), x=np.arange(8.0))
    layout = Layout("d", variables, variables, grid)
    signature = signature_of([layout])
    network = ScOTConfig(embed_dim=8, depths=(1,), num_heads=(2,), skip_connections=(0,)).build(signature)
    # As on a GPU, where the counts of AdamW are on the device as well.
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, fused=True)
    engine = EngineConfig(zero_stage=zero_stage).build(network, optimizer, 1, 2)
    objective = ObjectiveConfig(noise=0.1).build(signature, {"d": LossConfig().build(layout)})
    fields = torch.randn(2, 1, 5, 70, 8, 8)
    batches = [
        Batch(
            layout,
            inputs=frames[:, 0],
            targets=frames[:, 1:],
            mask=torch.ones(1, 4, 70, 8, 8, dtype=torch.bool),
            forcings=torch.empty(1, 3, 0, 8, 8),
            lead_time=torch.ones(1),
            scalars=torch.empty(1, 0),
            index=torch.zeros(1, 3, dtype=torch.int64),
            kind="rollouts",
        )
        for frames in fields
    ]
    tasks = [lambda net, batch=batch: objective.training(net, batch)[0] for batch in batches]
    for _ in range(2):
        waits = HostWaits()
        with waits:
            engine.step(tasks, lambda group: 1e-3, lambda: False)
    Path(folder, "waits.json").write_text(json.dumps(waits.found))
    distributed.stop()


def test_a_step_waits_once_for_the_device(tmp_path: Path) -> None:
    processes.run(Path(__file__), "count_waits", 1, {"folder": str(tmp_path), "zero_stage": 0})
    # The losses, the gradient's norm and the wish to stop, together.
    assert json.loads((tmp_path / "waits.json").read_text()) == ["tolist"]
