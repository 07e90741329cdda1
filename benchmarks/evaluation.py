"""How fast forecasts are scored, and what an evaluation costs beside its network: `make bench-eval`.

Scores of all packages are compared before anything is timed. Ratios are of the same run.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
import xskillscore
from the_well.benchmark import metrics as well

from benchmarks import io_data
from benchmarks.harness import Call, heading, in_fresh_process, interleave, line, load, resident_kibibytes
from pelagos.evaluation import scores
from pelagos.evaluation.forecast_schema import grid_of
from pelagos.evaluation.streaming.frame_spectra import FrameSpectra
from pelagos.evaluation.streaming.score_plan import PlanPart
from pelagos.evaluation.streaming.score_state import ScoreState
from pelagos.models.networks.network import NetworkConfig
from pelagos.models.networks.scot.scot import ScOTConfig
from pelagos.pipeline.stages import evaluate
from pelagos.pipeline.stages.evaluate import EvaluateStage, EvaluationRun
from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.safety.trust import trusting
from pelagos.preprocessing.store.store import Store, open_store
from tests.fresh_model import SMALL, fresh_model

TRAJECTORIES, LEADS, SIDE = 32, 20, 128
FRAMES, CHANNELS, SIZE = 2020, 4, 64
BARS = {"unweighted": 1.5, "weighted": 4.0, "the_well": 2.0}
SIX = (well.RMSE, well.NRMSE, well.LInfinity, well.VRMSE, well.binned_spectral_mse, well.PearsonR)
DEMO = {
    "embed_dim": 32,
    "depths": [2, 2, 2],
    "num_heads": [2, 4, 8],
    "skip_connections": [1, 1, 0],
    "window_size": 8,
    "patch_size": 4,
}
"""The network of `make demo`."""


@dataclass(frozen=True)
class Plane:
    """What the_well asks of a dataset's description."""

    n_spatial_dims: int = 2


def field_pair() -> tuple[xr.Dataset, xr.Dataset]:
    """A forecast and a truth of one variable."""
    rng = np.random.default_rng(0)
    coords = {
        "trajectory": np.arange(TRAJECTORIES),
        "lead_time": np.arange(LEADS) + 1.0,
        "y": np.arange(SIDE) / SIDE,
        "x": np.arange(SIDE) / SIDE,
    }
    sides = "periodic,periodic"
    attrs = {"grid": "cartesian", "boundary_y": sides, "boundary_x": sides}
    shape = tuple(map(len, coords.values()))
    first, second = (rng.normal(size=shape).astype(np.float32) for _ in range(2))
    forecast, truth = (xr.Dataset({"u": (tuple(coords), v)}, coords, attrs) for v in (first, second))
    return forecast, truth


def ours(forecast: xr.Dataset, truth: xr.Dataset) -> list[xr.DataArray]:
    """Bias, mean absolute error, root mean square error and correlation of each frame."""
    sums = scores.accumulate(forecast, truth)
    found = [metric(sums) for metric in (scores.bias, scores.mae, scores.rmse)]
    return [*found, scores.correlation(sums, centred=True)]


def theirs(
    forecast: xr.Dataset, truth: xr.Dataset, weights: xr.DataArray | None = None
) -> list[xr.DataArray]:
    names = (xskillscore.me, xskillscore.mae, xskillscore.rmse, xskillscore.pearson_r)
    return [metric(forecast["u"], truth["u"], dim=["y", "x"], weights=weights) for metric in names]


def our_six(spectra: FrameSpectra, forecast: xr.Dataset, truth: xr.Dataset) -> list[Any]:
    """The counterparts of the_well's six, of which ours keeps the error's spectrum in all shells."""
    sums = scores.accumulate(forecast, truth)
    metrics = (scores.rmse, scores.nrmse, scores.max_error, scores.vrmse)
    errors = (forecast["u"].values - truth["u"].values).reshape(-1, SIDE, SIDE)
    return [
        *(metric(sums) for metric in metrics),
        scores.correlation(sums, centred=True),
        spectra.energy(spectra.modes(errors)),
    ]


def the_wells(forecast: torch.Tensor, truth: torch.Tensor) -> list[torch.Tensor]:
    return [metric.eval(forecast, truth, Plane()) for metric in SIX]


def scoring(rounds: int) -> Iterator[tuple[object, ...]]:
    """Peers' time over ours."""
    forecast, truth = field_pair()
    weights = xr.ones_like(truth["u"].isel(trajectory=0, lead_time=0, drop=True))
    tensors = [torch.from_numpy(np.array(one["u"].values))[..., None] for one in (forecast, truth)]
    spectra = FrameSpectra.of(grid_of(truth))
    assert spectra is not None
    for found, expected in zip(ours(forecast, truth), theirs(forecast, truth, weights), strict=True):
        np.testing.assert_allclose(found.values[..., 0], expected.values, atol=1e-5)
    np.testing.assert_allclose(our_six(spectra, forecast, truth)[0].values, the_wells(*tensors)[0], rtol=1e-5)
    calls: dict[str, Call] = {
        "ours": partial(ours, forecast, truth),
        "unweighted": partial(theirs, forecast, truth),
        "weighted": partial(theirs, forecast, truth, weights),
        "our six": partial(our_six, spectra, forecast, truth),
        "the_well": partial(the_wells, *tensors),
    }
    times = interleave(calls, rounds)
    for name, bar in BARS.items():
        mine = "our six" if name == "the_well" else "ours"
        peer = "the_well, six metrics" if name == "the_well" else f"xskillscore, {name}, four scores"
        yield f"{peer} / ours", f">= {bar:g}", times.ratio(name, mine), f"{times.milliseconds(mine):.1f} ms"


def merging(rounds: int) -> tuple[object, ...]:
    """Milliseconds to merge one batch's state into that of all."""
    work = evaluate.begin(evaluation("merge", steps=20, starts=32, network="small")).evaluator
    batch = work.plan.forecasts.batches(16)[0]
    [states] = work.score(batch)
    state, seconds = states["net"], []
    for _ in range(rounds * 5):
        whole = ScoreState.empty(work.plan, "net", PlanPart(slice(0, 32), slice(0, 20)))
        began = time.perf_counter()
        whole.merge(state)
        seconds.append(time.perf_counter() - began)
    return "merge of two states", "<= 1 ms", f"{1e3 * sorted(seconds)[len(seconds) // 2]:.2f} ms", ""


ROOT = Path(tempfile.gettempdir()) / "pelagos-bench-evaluation"


def long_store() -> Store:
    """Two trajectories of two thousand frames."""
    path = ROOT / "benchmark" / "benchmark-1.zarr"
    if not path.is_dir():
        ROOT.mkdir(exist_ok=True)
        np.save(ROOT / "frames.npy", io_data.turbulence(2, FRAMES, CHANNELS, SIZE))
        with trusting(["benchmarks.io_data:Recorded"]):
            build(
                io_data.configuration(ROOT / "frames.npy", ROOT, splits={"kind": "trajectories", "test": 1})
            )
    return open_store(path)


def save_model(store: Store, network: str) -> Path:
    """A network with fresh weights that knows the store."""
    folder = ROOT / network
    configs: dict[str, NetworkConfig] = {"demo": ScOTConfig.model_validate(DEMO), "small": SMALL}
    leads = {"min_lead": store.dt, "max_lead": store.dt, "horizon": store.dt * FRAMES}
    fresh_model(store, configs[network], leads=leads).save(folder)
    return folder


def evaluation(name: str, steps: int, starts: int, network: str) -> EvaluateStage:
    """The configuration of an evaluation of so many forecasts from one trajectory."""
    store = long_store()
    # As many starts as fit, one frame apart, behind the first.
    first = store.num_times - steps - starts
    return EvaluateStage.model_validate(
        {
            "models": {"net": str(save_model(store, network))},
            "store": str(store.path),
            "output": str(ROOT / f"run-{name}"),
            "starts": {"steps": steps, "first": first, "every": 1},
            "threads": 1,
        }
    )


def make_frames(work: EvaluationRun) -> None:
    """The forecasts of a batch, of which nothing is kept."""
    for _ in work.evaluator.sources["net"].frames(work.archive.batches[0]):
        pass


def score_frames(work: EvaluationRun) -> None:
    """The same forecasts, scored beside persistence and written."""
    work.archive.write(work.archive.batches[0], work.evaluator.score(work.archive.batches[0]))


def share(rounds: int, keep: bool) -> tuple[str, str]:
    """What an evaluation takes beyond its network, over that, in a rollout of 300 steps: by clock and processor."""
    config = evaluation(f"share-{keep}", 300, 16, "demo").model_copy(update={"keep_forecasts": keep})
    work = evaluate.begin(config)
    calls: dict[str, Call] = {"network": partial(make_frames, work), "all": partial(score_frames, work)}
    # The first round also compiles, and fills caches.
    times = interleave(calls, rounds, warm_up=1)
    clock, processor = (ratio("all", "network").median - 1 for ratio in (times.clock_ratio, times.ratio))
    return f"{clock:.3f}", f"{processor:.3f} of the processor"


def peak_of(steps: int) -> float:
    """The peak memory of this process after an evaluation of so many steps [MiB]."""
    evaluate.run(evaluation(f"memory-{steps}", steps, 16, "small"))
    # Not ru_maxrss, which a child inherits from the process that started it.
    return resident_kibibytes("VmHWM") / 1024


def costs(rounds: int) -> Iterator[tuple[object, ...]]:
    """What an evaluation needs beside its network."""
    for keep, what in ((True, "writing and scoring"), (False, "scoring alone")):
        yield f"{what} beside the network / network, 300 steps", "<= 0.10", *share(rounds, keep)
    few, many = (in_fresh_process("benchmarks.evaluation", ["--peak-of", str(steps)]) for steps in (50, 2000))
    yield "peak memory, 2,000 steps / 50", "<= 1.05", f"{many / few:.3f}", f"{few:.0f}, {many:.0f} MiB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--peak-of", type=int, help="prints the peak memory of an evaluation of so many steps"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.peak_of:
        print(json.dumps(peak_of(arguments.peak_of)))
        return
    shutil.rmtree(ROOT, ignore_errors=True)
    long_store()
    print(heading(("", "bar", "found", "")))
    for row in scoring(arguments.rounds):
        print(line(row), flush=True)
    print(line(merging(arguments.rounds)), flush=True)
    for row in costs(arguments.rounds):
        print(line(row), flush=True)
    print(f"\n{load()}", file=sys.stderr)


if __name__ == "__main__":
    main()
