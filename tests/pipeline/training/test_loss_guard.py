"""Bad steps: found, ascribed to their samples, and left out on all processes alike."""

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import processes
import pytest
import torch

from pelagos.pipeline.training.loss_guard import GuardConfig, LossGuard, MicroBatchLosses
from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.layout import Layout


class Waves:
    """Stands for a dataset."""

    layout = Layout("waves", (), (), None)  # type: ignore[arg-type]

    def describe_frames(self, trajectory: int, initial: int, valid: int) -> str:
        return f"dataset waves, trajectory {trajectory}, frames {initial}->{valid}, times 0->1 s"


def guard(tmp_path: Path, **options: Any) -> LossGuard:
    return LossGuard(GuardConfig(**options), [Waves()], tmp_path / "skipped.jsonl")  # type: ignore[list-item]


def judged(*losses: float, steps: int = 1) -> list[MicroBatchLosses]:
    index = torch.tensor([[n, 2, 5] for n in range(len(losses))])
    return [MicroBatchLosses("waves", steps, index, torch.tensor(losses))]


def test_the_sample_that_is_no_number_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        guard(tmp_path).judge(7, math.nan, judged(0.5, math.nan, 0.4))
    assert "step 7" in str(caught.value)
    assert "dataset waves, trajectory 1, frames 2->5, times 0->1 s (loss nan)" in str(caught.value)
    assert "trajectory 0" not in str(caught.value)


def test_a_gradient_that_overflows_is_told_from_a_loss_that_does(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"gradient at step 7 is not finite, though every loss is.*trajectory 1"
    ):
        guard(tmp_path).judge(7, math.inf, judged(0.5, 0.4))


def test_bad_steps_are_skipped_and_recorded_until_patience_ends(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lenient = guard(tmp_path, bad="skip", patience=3)
    assert not lenient.judge(1, math.nan, judged(math.nan))
    assert not lenient.judge(2, math.nan, judged(math.nan))
    assert lenient.judge(3, 1.0, judged(0.5))
    assert not lenient.judge(4, math.nan, judged(math.nan))
    assert lenient.skipped == 3
    assert [json.loads(line)["step"] for line in (tmp_path / "skipped.jsonl").read_text().splitlines()] == [
        1,
        2,
        4,
    ]
    assert "WARNING: skipped: the loss at step 4" in capsys.readouterr().err
    lenient.judge(5, math.nan, judged(math.nan))
    with pytest.raises(DataError, match=r"3 steps in a row"):
        lenient.judge(6, math.nan, judged(math.nan))


def test_a_loss_far_above_what_it_was_is_a_spike(tmp_path: Path) -> None:
    watchful = guard(tmp_path, spike=4.0, warmup=5)
    for step in range(1, 21):
        loss = torch.tensor(3.0)
        assert torch.equal(watchful.nan_if_spike(loss, "waves", 1), loss)
        assert watchful.judge(step, 1.0, judged(3.0, 3.0))
    assert watchful.limit("waves", 1) == pytest.approx(12.0)
    assert watchful.nan_if_spike(torch.tensor(11.9), "waves", 1).isfinite()
    assert watchful.nan_if_spike(torch.tensor(12.1), "waves", 1).isnan()
    with pytest.raises(DataError, match=r"trajectory 1, frames 2->5, times 0->1 s \(loss 30\)"):
        watchful.judge(21, math.nan, judged(3.0, 30.0))


def test_longer_rollouts_are_not_held_against_shorter_ones(tmp_path: Path) -> None:
    watchful = guard(tmp_path, spike=4.0, warmup=3)
    for step in range(1, 11):
        assert watchful.judge(step, 1.0, judged(1.0))
    assert watchful.nan_if_spike(torch.tensor(4.1), "waves", 1).isnan()
    for step in range(11, 14):
        # Twice as many steps, and an error that has grown tenfold.
        assert watchful.nan_if_spike(torch.tensor(10.0), "waves", 2).isfinite()
        assert watchful.judge(step, 1.0, judged(10.0, steps=2))
    assert watchful.limit("waves", 2) == pytest.approx(40.0)
    assert watchful.nan_if_spike(torch.tensor(41.0), "waves", 2).isnan()


def test_a_guard_continues_from_its_state(tmp_path: Path) -> None:
    first = guard(tmp_path, spike=4.0, warmup=0, bad="skip")
    first.judge(1, 1.0, judged(3.0))
    first.judge(2, math.nan, judged(math.nan))
    second = guard(tmp_path, spike=4.0, warmup=0, bad="skip")
    second.load(json.loads(json.dumps(first.state())))
    assert second.state() == first.state()
    assert second.limit("waves", 1) == first.limit("waves", 1) == pytest.approx(12.0)


def program(folder: str, zero_stage: int) -> None:
    """Three steps, of which the second has a loss on the last process that is no number."""
    from pelagos.pipeline.engine import distributed
    from pelagos.pipeline.engine.engine import EngineConfig

    distributed.start()
    torch.manual_seed(0)
    network = torch.nn.Linear(4, 4)
    optimizer = torch.optim.AdamW([{"params": list(network.parameters()), "peak": 0.1}], lr=0.1, fused=True)
    engine = EngineConfig(zero_stage=zero_stage).build(network, optimizer, 1, 1)
    states = []
    for step in range(3):
        bad = step == 1 and distributed.rank() == distributed.world() - 1
        scale = math.nan if bad else 1.0
        x = torch.full((1, 4), 1.0 + step)
        info = engine.step([lambda net, x=x, scale=scale: net(x).square().sum() * scale], lambda group: 0.1)  # type: ignore[misc]  # a default binds the loop's value
        assert math.isfinite(info.grad_norm) == (step != 1)
        shards, moments = engine.shards, engine.moments
        held = {"weight": engine.partitions} | moments
        states.append(
            {
                f"{kind}.{n}": t.clone()
                for kind, parts in held.items()
                for n, t in shards.everywhere(parts).items()
            }
        )
    steps = [float(engine.base.state[piece]["step"]) for piece in engine.partitions]
    if distributed.rank() == 0:
        same = [all(torch.equal(a[key], b[key]) for key in a) for a, b in pairwise(states)]
        finite = all(value.isfinite().all() for value in states[-1].values())
        result = {"same": same, "finite": finite, "steps": steps}
        Path(folder, f"{zero_stage}-{distributed.world()}.json").write_text(json.dumps(result))
    distributed.barrier()
    distributed.stop()


@pytest.mark.parametrize(("zero_stage", "count"), [(0, 1), (0, 2), (1, 2), (2, 2), (3, 2)])
def test_a_step_that_is_bad_on_one_process_changes_nothing_on_any(
    tmp_path: Path, zero_stage: int, count: int
) -> None:
    arguments = {"folder": str(tmp_path), "zero_stage": zero_stage}
    processes.run(Path(__file__), "program", count, arguments)
    result = json.loads((tmp_path / f"{zero_stage}-{count}.json").read_text())
    assert result == {"same": [True, False], "finite": True, "steps": [2.0] * len(result["steps"])}
