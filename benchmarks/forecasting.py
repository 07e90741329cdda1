"""What forecasts cost beside their network: memory by the number of steps, and time to write.

`python -m benchmarks.forecasting`. The network that is timed has the size of the demo's and fresh weights: neither
figure depends on what a network has learnt.
"""

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.harness import Timings, heading, interleave, line, load, resident_kibibytes
from pelagos.evaluation.forecast_plan import ForecastPlan, StartsConfig
from pelagos.models.networks.scot.scot import ScOTConfig
from pelagos.pipeline.forecasting.forecast_file import write_forecasts
from pelagos.pipeline.forecasting.forecaster import Forecaster
from pelagos.pipeline.runs.model_folder import load as load_model
from pelagos.preprocessing.build.build_config import BuildConfig
from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.online.simulation import SimulateConfig, simulate
from pelagos.preprocessing.sources.formats import well_writer
from pelagos.preprocessing.store.store import Store, open_store
from tests.fresh_model import SMALL, fresh_model

DEMO = ScOTConfig(
    kind="scot",
    embed_dim=32,
    depths=(2, 2, 2),
    num_heads=(2, 4, 8),
    skip_connections=(1, 1, 0),
    window_size=8,
    patch_size=4,
)
LENGTHS = (50, 2000)
STEPS = 300


def make_store(folder: Path, points: int) -> Store:
    """A store of two trajectories of travelling waves."""
    values = {"num_trajectories": 2, "shape": (points, points), "num_frames": 2, "interval": 0.02}
    config = SimulateConfig.model_validate({"equation": {"kind": "wave"}, **values})
    well_writer.write(simulate(config), folder / "waves.hdf5")
    source = {"kind": "the_well", "paths": str(folder / "waves.hdf5")}
    return open_store(
        build(BuildConfig.model_validate({"dataset": "waves", "source": source, "root": folder}))
    )


def forecast_plan(store: Store, steps: int) -> ForecastPlan:
    """From the last frame of both trajectories."""
    return StartsConfig(at=("last",), steps=steps).plan(store, verified=False)


def peak_kibibytes(folder: Path, steps: int) -> int:
    """The largest resident memory of this process, which writes one forecast [KiB]."""
    # Not ru_maxrss: through fork and exec a child inherits that of its parent, which has built a store.
    store = open_store(json.loads((folder / "store.json").read_text()))
    with contextlib.redirect_stderr(None):
        forecaster = Forecaster(load_model(folder / "model"), store, threads=1)
        write_forecasts(forecaster, forecast_plan(store, steps), folder / "forecast.zarr", {})
    return resident_kibibytes("VmHWM")


def peaks(rounds: int) -> dict[int, list[int]]:
    """The peak of each number of steps, in fresh processes in turn [KiB]."""
    found: dict[int, list[int]] = {steps: [] for steps in LENGTHS}
    with tempfile.TemporaryDirectory() as folder:
        # Made here: what a build takes would hide what a forecast does.
        store = make_store(Path(folder), 32)
        fresh_model(store, SMALL).save(Path(folder, "model"))
        Path(folder, "store.json").write_text(json.dumps(str(store.path)))
        for _ in range(rounds):
            for steps in LENGTHS:
                command = [sys.executable, "-m", "benchmarks.forecasting", "--peak", folder, str(steps)]
                output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                found[steps].append(json.loads(output.splitlines()[-1]))
    return found


def writing(rounds: int, steps: int) -> Timings:
    """Forecasts that are written, and the same that are dropped."""
    with tempfile.TemporaryDirectory() as folder:
        store = make_store(Path(folder), 64)
        forecaster, plan = Forecaster(fresh_model(store, DEMO), store, threads=1), forecast_plan(store, steps)
        output = Path(folder, "forecast.zarr")

        def write() -> None:
            write_forecasts(forecaster, plan, output, {})

        def drop() -> None:
            for batch in plan.batches(forecaster.batch):
                for _ in forecaster.frames(batch, plan):
                    pass

        return interleave(
            {"write": write, "drop": drop},
            rounds,
            warm_up=1,
            before=lambda: shutil.rmtree(output, ignore_errors=True),
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peak", nargs=2, metavar=("FOLDER", "STEPS"), help="print a peak, and nothing else")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=STEPS)
    options = parser.parse_args()
    if options.peak:
        print(peak_kibibytes(Path(options.peak[0]), int(options.peak[1])))
        return
    print(f"{load()}, process {os.getpid()}\n")
    found = peaks(options.rounds)
    short, long = (min(found[steps]) for steps in LENGTHS)
    print(heading(["peak memory [MiB]", *(f"{steps} steps" for steps in LENGTHS), "more"]))
    print(
        line(["forecast", f"{short / 1024:.0f}", f"{long / 1024:.0f}", f"{100 * (long / short - 1):+.1f} %"])
    )
    timings = writing(options.rounds, options.steps)
    print(f"\nwritten / dropped, {options.steps} steps: by the clock {timings.clock_ratio('write', 'drop')}")
    print(f"by the processor {timings.ratio('write', 'drop')}")


if __name__ == "__main__":
    main()
