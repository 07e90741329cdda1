"""Every network that the demo does not train learns on a small store, through the stage that users run."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

from pelagos.models.losses import LossConfig
from pelagos.pipeline.runs import model_folder
from pelagos.pipeline.runs.model_folder import context_of
from pelagos.pipeline.stages import evaluate, pretrain
from pelagos.preprocessing.build.build_config import BuildConfig
from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.online.simulation import SimulateConfig, simulate
from pelagos.preprocessing.samples.dataset import Dataset, DatasetConfig
from pelagos.preprocessing.samples.normalize import Normalizer
from pelagos.preprocessing.sources.formats import well_writer
from pelagos.preprocessing.store.store import open_store

NETWORKS: dict[str, dict[str, Any]] = {
    "fno": {"width": 16, "modes": (6, 6), "num_layers": 2},
    "unet": {"dims": (16, 32), "depth": 1, "kernel": 5},
    "wxformer": {
        "dims": (16, 32, 64, 128),
        "depths": (1, 1, 1, 1),
        "head_dim": 8,
        "local_window": (4, 4, 2, 1),
        "global_window": (2, 2, 2, 1),
        "kernels": ((2, 4), (2, 4), (2, 4), (2, 4)),
    },
    "fuxi": {"dim": 32, "depth": 2, "num_heads": 4, "window": 4, "patch": (2, 2), "groups": 4},
    "sfno": {"width": 8, "modes": (6, 6, 2), "latent_steps": 4, "num_layers": 2},
}
CONDITIONS = {"fno": ("duration", "spacing_x")}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Travelling waves in a medium that is known."""
    folder = tmp_path_factory.mktemp("waves")
    config = SimulateConfig(
        equation={"kind": "wave"}, num_trajectories=16, shape=(16, 16), num_frames=8, interval=0.05
    )
    well_writer.write(simulate(config), folder / "waves.hdf5")
    values = {
        "dataset": "waves",
        "source": {"kind": "the_well", "paths": str(folder / "waves.hdf5")},
        "root": folder,
        "splits": {"kind": "trajectories", "valid": 4},
    }
    return build(BuildConfig.model_validate(values))


def held_out(store: Path) -> Dataset:
    config = DatasetConfig(path=store, split="valid", sampling={"kind": "pairs", "max_lead": 2})
    return config.open(Normalizer.of(open_store(store)))


@pytest.mark.parametrize("kind", NETWORKS)
def test_training_falls_below_persistence(store: Path, tmp_path: Path, kind: str) -> None:
    config = pretrain.PretrainStage.model_validate(
        {
            "output": tmp_path / "run",
            "network": {"kind": kind, **NETWORKS[kind]},
            "data": [{"path": store, "sampling": {"kind": "pairs", "max_lead": 2}}],
            "normalization": "dataset",
            "conditions": CONDITIONS.get(kind, ()),
            "loop": {"steps": 40, "batch_size": 16, "micro_batch": 16, "ema": 0.9},
            "optimizer": {"lr": 5e-3},
            "loss": {"kind": "mse"},
            "tracking": {"uri": f"sqlite:///{store.parents[1]}/mlflow.db"},
        }
    )
    trained = model_folder.load(pretrain.run(config))
    assert set(CONDITIONS.get(kind, ())) <= set(trained.signature.scalars)
    dataset = held_out(store)
    batch = dataset.batch(torch.arange(dataset.num_samples).numpy())
    loss = LossConfig(kind="mse").build(dataset.layout)
    context = context_of(trained.signature, dataset.layout, batch.scalars, batch.lead_time)
    with torch.no_grad():
        forecast = trained.network(batch.inputs, batch.lead_time, context)
    error = loss(forecast, batch.targets, batch.mask)
    unchanged = loss(batch.inputs[:, : len(dataset.layout.outputs)], batch.targets, batch.mask)
    assert error < 0.8 * unchanged, float(error / unchanged)


def test_a_constant_and_a_signal_below_single_precision_train_to_a_finite_model(tmp_path: Path) -> None:
    """Density is 1 everywhere, and pressure varies by 0.004 Pa about 101325 Pa."""
    time, x = np.arange(12.0)[:, None, None], 2 * np.pi * np.arange(16) / 16
    wave = np.sin(x - 0.3 * time) * np.cos(x)[:, None]
    fields = {"density": np.ones_like(wave), "pressure": 101325 + 0.004 * wave, "u": wave}
    axes = {"time": ("time", np.arange(12.0), {"units": "s"}), "y": np.arange(16.0), "x": np.arange(16.0)}
    ds = xr.Dataset({name: (("time", "y", "x"), values) for name, values in fields.items()}, axes)
    ds.to_netcdf(tmp_path / "flow.nc", engine="h5netcdf")
    values = {
        "dataset": "flow",
        "source": {"kind": "cf", "paths": str(tmp_path / "flow.nc"), "boundary": "periodic"},
        "transforms": {"pressure": {"kind": "shift", "offset": 101325.0}},
        "root": tmp_path,
        "splits": {"kind": "time", "train": [0, 9], "valid": [9, 12]},
    }
    store = build(BuildConfig.model_validate(values))
    recorded = open_store(store).assumptions
    assert recorded is not None
    assert "constant" in {one.code for one in recorded if one.field == "density"}
    config = {
        "output": tmp_path / "run",
        "network": {"kind": "fno", **NETWORKS["fno"]},
        "data": [{"path": store, "sampling": {"kind": "pairs", "max_lead": 1}}],
        "loop": {"steps": 3, "batch_size": 4, "micro_batch": 4},
        "tracking": {"uri": f"sqlite:///{tmp_path}/mlflow.db"},
    }
    trained = model_folder.load(pretrain.run(pretrain.PretrainStage.model_validate(config)))
    assert all(torch.isfinite(weight).all() for weight in trained.network.state_dict().values())
    batch = (
        DatasetConfig(path=store, sampling={"kind": "pairs", "max_lead": 1})
        .open(Normalizer.of(open_store(store)))
        .batch(np.arange(4))
    )
    assert torch.isfinite(batch.inputs).all()
    assert float(batch.inputs.std(dim=(0, 2, 3)).max()) < 10


def test_rows_between_walls_weigh_by_their_area_from_the_file_to_the_scores(tmp_path: Path) -> None:
    """Chebyshev's rows crowd at the walls; there the field moves most, over little area."""
    y = -np.cos(np.pi * np.arange(12) / 11)
    x, time = 2 * np.pi * np.arange(12) / 12, np.arange(10.0)[:, None, None]
    wave = (0.1 + y[:, None] ** 8) * np.sin(x - 0.4 * time)
    axes = {"time": ("time", np.arange(10.0), {"units": "s"}), "y": ("y", y, {"units": "m"}), "x": ("x", x)}
    ds = xr.Dataset({"u": (("time", "y", "x"), wave, {"units": "m s-1"})}, axes)
    ds.x.attrs["units"] = "m"
    ds.to_netcdf(tmp_path / "flow.nc", engine="h5netcdf")
    values = {
        "dataset": "flow",
        "source": {
            "kind": "cf",
            "paths": str(tmp_path / "flow.nc"),
            "boundary": {"y": "wall", "x": "periodic"},
        },
        "root": tmp_path,
        "splits": {"kind": "time", "train": [0, 7], "test": [7, 10]},
    }
    store = build(BuildConfig.model_validate(values))
    # The outermost points lie on the walls, where their cells end; all others end half-way to the next.
    edges = np.concatenate([[-1.0], (y[1:] + y[:-1]) / 2, [1.0]])
    area_HW = np.diff(edges)[:, None] / np.diff(edges).mean() * np.ones(12)
    np.testing.assert_allclose(open_store(store).grid.area_weights(), area_HW, rtol=1e-9)
    config = {
        "output": tmp_path / "run",
        "network": {"kind": "fno", "width": 4, "modes": (2, 2), "num_layers": 1},
        "data": [{"path": store}],
        "loop": {"steps": 1, "batch_size": 2, "micro_batch": 2},
        "tracking": {"uri": f"sqlite:///{tmp_path}/mlflow.db"},
    }
    trained = pretrain.run(pretrain.PretrainStage.model_validate(config))
    stage = {
        "models": {"net": str(trained)},
        "store": store,
        "output": tmp_path / "scores",
        "starts": {"split": "test", "steps": 1},
        "log": False,
    }
    found = evaluate.run(evaluate.EvaluateStage.model_validate(stage))
    assert found is not None
    moved = np.square(wave[8] - wave[7])
    by_area, by_point = np.sqrt((area_HW * moved).mean()), np.sqrt(moved.mean())
    assert found.scores["methods"]["persistence"]["groups"]["u"]["rmse"][0] == pytest.approx(
        by_area, rel=1e-4
    )
    assert by_area < 0.8 * by_point, "otherwise the test could not tell"
