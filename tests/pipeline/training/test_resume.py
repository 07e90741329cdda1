"""Exact and elastic resume: killed processes, other numbers of processes, other ZeRO stages."""

import json
import os
import shutil
import subprocess
import sys
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import small_runs
import torch

from pelagos.pipeline.engine import checkpoint
from pelagos.pipeline.tracking.tracker import TrackingConfig, read_metrics
from pelagos.pipeline.training.ledger import read_ledger


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data and a configuration."""
    path = tmp_path_factory.mktemp("resume")
    small_runs.prepare(path)
    return path


@pytest.fixture(scope="module")
def alone(folder: Path) -> Path:
    """A run of one process that nothing disturbs."""
    return small_runs.finish(folder, "alone", 1)


@pytest.fixture(scope="module")
def pair(folder: Path) -> Path:
    """A run of two processes that nothing disturbs."""
    return small_runs.finish(folder, "pair", 2, "engine.zero_stage=2")


@pytest.fixture(scope="module")
def elastic(folder: Path) -> Path:
    """A run that is killed three times and goes on with other processes and another ZeRO stage."""
    run = folder / "elastic"
    for processes, stage, step in ((3, 2, 4), (2, 3, 8), (4, 1, 12)):
        team = small_runs.start(folder, "elastic", processes, f"engine.zero_stage={stage}")
        small_runs.kill_when(team, lambda step=step: small_runs.reached(run) >= step)  # type: ignore[misc]  # a default binds the loop's value
        assert not (run / "model").exists()
    return small_runs.finish(folder, "elastic", 1, "engine.zero_stage=0")


def samples(run: Path) -> list[tuple[int, ...]]:
    """Trajectory, initial and valid frame of all samples that a run has used, in order."""
    blocks = read_ledger(run / "ledger")
    assert list(blocks) == list(range(small_runs.STEPS * small_runs.BATCH))
    return [tuple(index) for index in chain.from_iterable(block["index"] for block in blocks.values())]


@pytest.mark.parametrize("name", ["alone", "pair", "elastic"])
def test_each_sample_is_used_once_an_epoch(name: str, request: pytest.FixtureRequest) -> None:
    used = samples(request.getfixturevalue(name))
    epochs = [used[start : start + small_runs.SAMPLES] for start in (0, small_runs.SAMPLES)]
    assert all(len(set(epoch)) == small_runs.SAMPLES for epoch in epochs)
    assert epochs[0] != epochs[1]


def test_the_same_samples_make_a_batch_on_any_number_of_processes(
    alone: Path, pair: Path, elastic: Path
) -> None:
    assert samples(alone) == samples(pair) == samples(elastic)


@pytest.mark.parametrize("name", ["pair", "elastic"])
def test_dropout_and_drop_path_do_not_depend_on_processes_and_kills(
    name: str, alone: Path, request: pytest.FixtureRequest
) -> None:
    run = request.getfixturevalue(name)
    mine, wanted = small_runs.losses(run), small_runs.losses(alone)
    assert sorted(mine) == sorted(wanted) == list(range(1, small_runs.STEPS + 1))
    # Sums over processes are rounded in another order; a single other draw would change the third digit.
    np.testing.assert_allclose([mine[s] for s in wanted], list(wanted.values()), rtol=1e-4)
    for key, tensor in small_runs.weights(alone).items():
        torch.testing.assert_close(small_runs.weights(run)[key], tensor, rtol=1e-3, atol=1e-4)


def test_a_run_killed_again_and_again_has_the_same_losses_and_weights_to_the_last_bit(
    folder: Path, pair: Path
) -> None:
    run = folder / "killed"
    for step in (3, 9):
        team = small_runs.start(folder, "killed", 2, "engine.zero_stage=2")
        small_runs.kill_when(team, lambda step=step: small_runs.reached(run) >= step)  # type: ignore[misc]  # a default binds the loop's value
    small_runs.finish(folder, "killed", 2, "engine.zero_stage=2")
    assert small_runs.losses(run) == small_runs.losses(pair)
    assert all(
        torch.equal(small_runs.weights(run)[key], tensor) for key, tensor in small_runs.weights(pair).items()
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "codes", "message"),
    [
        ("seed=5", [2, 1], "holds a run of another configuration"),
        ("tracking.retry_seconds=60", [1, 1], "latest.json is damaged"),
    ],
)
def test_what_one_process_finds_wrong_ends_all_as_what_the_user_can_mend(
    folder: Path, pair: Path, change: str, codes: list[int], message: str
) -> None:
    """A job of which a process dies goes back into the queue; one that tells what to mend does not."""
    refused = folder / "refused"
    shutil.copytree(pair, refused)
    (refused / "done.json").unlink()
    (refused / "checkpoints" / checkpoint.LATEST).write_text("{")
    team = small_runs.start(folder, "refused", 2, "engine.zero_stage=2", change)
    output = team.join()
    shutil.rmtree(refused)
    assert team.codes == codes, output
    assert message in output
    assert "another process has failed; its message says why" in output
    assert "Traceback" not in output


@pytest.mark.parametrize("step", [3, small_runs.STEPS])
def test_a_checkpoint_that_cannot_be_written_ends_all_processes(folder: Path, step: int) -> None:
    run = folder / f"unwritten-{step}"
    # In its way is a link that leads nowhere.
    target = checkpoint.path_of(run / "checkpoints", step)
    target.parent.mkdir(parents=True)
    target.symlink_to("nowhere")
    team = small_runs.start(folder, run.name, 2)
    output = team.join()
    assert team.codes == [1, 1], output
    assert "a checkpoint could not be written" in output
    assert "Traceback" not in output
    assert small_runs.reached(run) == step - 1


def test_torchrun_trains_the_same(folder: Path, pair: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "pelagos.pipeline", "pretrain", str(folder / "train.yaml")]
    command += [f"output={folder / 'torchrun'}", "engine.zero_stage=2"]
    paths = [str(Path(small_runs.__file__).parent), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert small_runs.losses(folder / "torchrun") == small_runs.losses(pair)


def test_the_tracking_server_takes_what_changes_when_a_run_goes_on(elastic: Path, folder: Path) -> None:
    client = TrackingConfig(uri=f"sqlite:///{folder}/mlflow.db").client()
    recorded = client.get_metric_history((elastic / "mlflow_run").read_text(), "train/loss")
    assert {metric.step for metric in recorded} == set(range(1, small_runs.STEPS + 1))


def test_a_checkpoint_says_which_run_and_code_it_is_of(alone: Path) -> None:
    newest = checkpoint.latest(alone / "checkpoints")
    assert newest is not None
    tensors, values = checkpoint.load(newest)
    assert (values["step"], values["samples"]) == (small_runs.STEPS, small_runs.STEPS * small_runs.BATCH)
    assert values["config"]["network"]["path"] == "stochastic:Stochastic"
    assert torch.__version__.startswith(values["versions"]["torch"])
    assert set(tensors) == {"weights", "average", "moments"}
    assert set(tensors["weights"]) == set(tensors["average"])
    json.dumps(values)


RECIPE = (
    "data.0.sampling={kind: rollouts, steps: 2, curriculum: [[0, 1], [6, 2]]}",
    "objective={noise: 0.05, gradient: pushforward}",
    "loop.validate_every=4",
    "loop.validation_rollout=3",
    "loop.kept=best",
)


@pytest.fixture(scope="module")
def recipe(folder: Path) -> Path:
    """Such a run that nothing disturbs."""
    return small_runs.finish(folder, "recipe", 1, *RECIPE)


def held_out(run: Path) -> dict[int, float]:
    """Rollout scores by step."""
    return {int(r["step"]): r["valid_rollout/waves"] for r in read_metrics(run) if "valid_rollout/waves" in r}


def test_rollouts_with_noise_are_the_same_on_two_processes_that_share_weights(
    folder: Path, recipe: Path
) -> None:
    shared = small_runs.finish(folder, "recipe-shared", 2, *RECIPE, "engine.zero_stage=3")
    mine, wanted = small_runs.losses(shared), small_runs.losses(recipe)
    np.testing.assert_allclose([mine[step] for step in wanted], list(wanted.values()), rtol=1e-4)
    np.testing.assert_allclose(list(held_out(shared).values()), list(held_out(recipe).values()), rtol=1e-4)


def test_rollouts_noise_curriculum_and_the_best_weights_survive_a_kill_and_a_torn_file(
    folder: Path, recipe: Path
) -> None:
    team = small_runs.start(folder, "recipe-killed", 1, *RECIPE)
    small_runs.kill_when(team, lambda: small_runs.reached(folder / "recipe-killed") >= 9)
    (folder / "recipe-killed" / "checkpoints" / checkpoint.LATEST).write_text('{"checkpoint"')
    killed = small_runs.finish(folder, "recipe-killed", 1, *RECIPE, "loop.damaged=previous")
    scores = held_out(recipe)
    assert list(scores) == [4, 8, 12, 16]
    assert held_out(killed) == scores
    for run in (recipe, killed):
        newest = checkpoint.latest(run / "checkpoints")
        assert newest is not None
        tensors, values = checkpoint.load(newest)
        assert values["best"]["score"] == min(scores.values())
        assert scores[values["best"]["step"]] == min(scores.values())
        assert all(
            torch.equal(tensors["best"][name], tensor) for name, tensor in small_runs.weights(run).items()
        )
    assert all(
        torch.equal(small_runs.weights(killed)[name], t) for name, t in small_runs.weights(recipe).items()
    )


def test_a_run_without_better_scores_ends_early_and_keeps_the_best(folder: Path) -> None:
    overrides = ("optimizer.lr=3", "loop.validate_every=1", "loop.patience=2", "loop.kept=best", "loop.ema=0")
    run = small_runs.finish(folder, "patient", 1, *overrides)
    scores = {r["step"]: r["valid/waves"] for r in read_metrics(run) if "valid/waves" in r}
    last, best = max(scores), min(scores, key=lambda step: scores[step])
    assert last == best + 2 < small_runs.STEPS
    newest = checkpoint.latest(run / "checkpoints")
    assert newest is not None
    tensors, values = checkpoint.load(newest)
    assert (values["step"], values["best"]["step"]) == (last, best)
    assert all(torch.equal(tensors["best"][name], tensor) for name, tensor in small_runs.weights(run).items())
    assert any(
        not torch.equal(tensors["weights"][n], tensor) for n, tensor in small_runs.weights(run).items()
    )
