"""Real processes that share the rows of a sample compute what one computes, gradients included."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import processes
import pytest
import torch
from torch import Tensor, nn

from pelagos.models.context import Context, Signature
from pelagos.models.layers.row_layout import WHOLE, RowLayout, RowSharing, dealt_rows
from pelagos.models.networks.credit.wxformer import WXFormerConfig
from pelagos.models.networks.scot.scot import ScOTConfig
from pelagos.pipeline.engine import distributed
from pelagos.pipeline.engine.engine import EngineConfig
from pelagos.pipeline.engine.row_processes import RowProcesses, row_processes

SIGNATURE = Signature(inputs=("u", "v"), outputs=("u", "v"))
WORLD, ROWS, COLUMNS = 4, 64, 32
RATE, CLIP = 1e-3, 0.5
SCOT = {
    "embed_dim": 8,
    "depths": (2, 2),
    "num_heads": (2, 2),
    "skip_connections": (1, 0),
    "window_size": 8,
    "position_bias_dim": 8,
}
WXFORMER = {
    "dims": (8, 8, 8, 16),
    "depths": (1, 1, 1, 1),
    "head_dim": 8,
    "kernels": ((2, 8), (2, 4), (2,), (2,)),
}


def networks(dtype: torch.dtype) -> Iterator[tuple[str, nn.Module]]:
    for config in (ScOTConfig.model_validate(SCOT), WXFormerConfig.model_validate(WXFORMER)):
        torch.manual_seed(0)
        yield config.kind, config.build(SIGNATURE).to(dtype)


def outputs_and_gradients(network: nn.Module, group: RowProcesses | None, dtype: torch.dtype) -> list[Tensor]:
    """Of own rows: the output and the gradient of the fields; then the gradients of weights."""
    x_BCHW = torch.randn(1, 2, ROWS, COLUMNS, generator=torch.Generator().manual_seed(1)).to(dtype)
    context, own = Context(periodic=(False, True)), range(ROWS)
    if group is not None:
        assert isinstance(network, RowSharing)
        layout = dealt_rows(ROWS, network.shared_unit((ROWS, COLUMNS), group.size), group)
        context, own = Context(periodic=(False, True), rows=layout), layout.own
    network.eval().zero_grad()
    x_BCHW = x_BCHW[:, :, own.start : own.stop].requires_grad_()
    y_BCHW: Tensor = network(x_BCHW, torch.tensor([0.5], dtype=dtype), context)
    y_BCHW.square().sum().backward()
    assert x_BCHW.grad is not None
    return [
        y_BCHW.detach(),
        x_BCHW.grad,
        *(torch.zeros_like(p) if p.grad is None else p.grad for p in network.parameters()),
    ]


def difference(network: nn.Module, group: RowProcesses, dtype: torch.dtype, whole: Sequence[Tensor]) -> float:
    """The largest one of outputs or gradients from those of one process, relative to the largest value of either."""
    mine = outputs_and_gradients(network, group, dtype)
    rows = dealt_rows(ROWS, network.shared_unit((ROWS, COLUMNS), group.size), group).own  # type: ignore[operator]
    expected = [part[:, :, rows.start : rows.stop] for part in whole[:2]] + [*whole[2:]]
    found = mine[:2] + [group.total(gradient) for gradient in mine[2:]]
    parts = (slice(0, 1), slice(1, 2), slice(2, None))
    return max(
        max(float((f - e).abs().max()) for f, e in zip(found[part], expected[part], strict=True))
        / max(float(e.abs().max()) for e in expected[part])
        for part in parts
    )


def loss_of(network: nn.Module, number: int, layout: RowLayout) -> Tensor:
    """Of a sample's own rows, the mean over all."""
    x_BCHW = torch.randn(1, 2, ROWS, COLUMNS, generator=torch.Generator().manual_seed(number))
    own = layout.own if layout.shared else range(ROWS)
    y_BCHW: Tensor = network(x_BCHW[:, :, own.start : own.stop], torch.tensor([0.5]), Context(rows=layout))
    return layout.average(y_BCHW.square().mean())


def optimizer(network: nn.Module) -> torch.optim.AdamW:
    # A large eps: AdamW would enlarge the rounding of gradients that are almost zero.
    return torch.optim.AdamW(network.parameters(), lr=RATE, eps=1e-2)


def plain_steps() -> list[tuple[float, float]]:
    """Losses and norms of gradients of one process that has both samples."""
    _, network = next(networks(torch.float32))
    adam, found = optimizer(network), []
    for _ in range(2):
        losses = [loss_of(network, number, WHOLE) for number in range(2)]
        adam.zero_grad()
        (sum(losses) / 2).backward()  # type: ignore[union-attr]
        norm = torch.nn.utils.clip_grad_norm_(network.parameters(), CLIP)
        adam.step()
        found.append((float(sum(losses)) / 2, float(norm)))
    return found


def shared_steps(stage: int, group: RowProcesses) -> list[tuple[float, float]]:
    """The same of two pairs of processes, each of which shares one of the samples."""
    _, network = next(networks(torch.float32))
    config = EngineConfig.model_validate({"zero_stage": stage, "clip": CLIP, "domain": 2})
    engine, layout, found = config.build(network, optimizer(network), 1, 1), dealt_rows(ROWS, 4, group), []
    for _ in range(2):
        info = engine.step([lambda net: loss_of(net, distributed.rank() // 2, layout)], lambda _: RATE)
        [loss] = distributed.all_sum([info.loss / WORLD])
        found.append((loss, info.grad_norm))
    return found


def program(folder: str) -> None:
    """Differences of all cases in this process."""
    distributed.start()
    torch.set_num_threads(1)
    pairs, all_four = row_processes(2), row_processes(WORLD)
    found = {}
    for dtype in (torch.float32, torch.float64):
        for kind, network in networks(dtype):
            whole = [tensor.clone() for tensor in outputs_and_gradients(network, None, dtype)]
            for group in (pairs, all_four):
                found[f"{group.size} {kind} {dtype}"] = difference(network, group, dtype, whole)
    expected = plain_steps()
    for stage in range(4):
        steps = shared_steps(stage, pairs)
        found[f"zero {stage}"] = float(np.abs(np.array(steps) / np.array(expected) - 1).max())
    half = pairs.exchange(torch.ones(2, dtype=torch.bfloat16), [1, 1], [1, 1])
    found["bfloat16"] = abs(float(half.sum()) - 2)
    Path(folder, f"{distributed.rank()}.json").write_text(json.dumps(found))
    distributed.stop()


@pytest.fixture(scope="module")
def differences(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, float]]:
    folder = tmp_path_factory.mktemp("rows")
    processes.run(Path(__file__), "program", WORLD, {"folder": str(folder)})
    return [json.loads(Path(folder, f"{rank}.json").read_text()) for rank in range(WORLD)]


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("kind", ["scot", "wxformer"])
def test_two_and_four_processes_are_equal_to_one(
    size: int, kind: str, differences: list[dict[str, float]]
) -> None:
    for found in differences:
        assert found[f"{size} {kind} torch.float32"] <= 1e-5
        assert found[f"{size} {kind} torch.float64"] <= 1e-10


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_gradients_are_averaged_and_clipped_as_those_of_one_at_every_zero_stage(
    stage: int, differences: list[dict[str, float]]
) -> None:
    """A second step, too: both have moved the weights alike."""
    assert max(found[f"zero {stage}"] for found in differences) <= 1e-5


def test_half_precision_can_be_exchanged(differences: list[dict[str, float]]) -> None:
    assert [found["bfloat16"] for found in differences] == [0.0] * WORLD
