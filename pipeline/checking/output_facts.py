"""Output facts: what a model, a training run or a forecast on disk is, without loading a network."""

import json
import tempfile
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from safetensors import safe_open

from pelagos.evaluation.forecast_schema import LEAD_TIME, sample_dims
from pelagos.evaluation.forecast_zarr import read_forecasts
from pelagos.pipeline.engine import checkpoint
from pelagos.pipeline.runs import published_folder, run_folder
from pelagos.pipeline.runs.configuration import read_yaml
from pelagos.pipeline.runs.model_checksum import DESCRIPTION, WEIGHTS
from pelagos.pipeline.stages import model_versions
from pelagos.pipeline.stages.seed_runs import recorded_losses, seed_folders
from pelagos.pipeline.tracking import model_registry
from pelagos.pipeline.tracking.tracker import TrackingConfig, read_metrics
from pelagos.preprocessing.errors import DamagedFileError
from pelagos.preprocessing.store.manifest import MANIFEST

_SCORES = ("train/loss", "valid/", "valid_rollout/")
"""What the names of the metrics begin with that say how a run has gone."""


def output_facts(path: str, tracking: TrackingConfig) -> dict[str, Any] | None:
    """What an output of Pelagos other than a store is, for JSON; None where the path is something else.

    Args:
        path: a folder, or `models:/NAME@ALIAS` of the registry.
        tracking: where the registry is.

    Raises:
        PelagosError: it is one, and damaged.
    """
    if model_registry.is_registered(path):
        return _model(path, model_registry.resolve(path, tracking), tracking)
    folder = Path(path).expanduser()
    if (folder / DESCRIPTION).is_file():
        return _model(path, folder, tracking)
    if published_folder.is_published(folder):
        with tempfile.TemporaryDirectory(prefix="pelagos-") as scratch:
            published_folder.restore(folder, Path(scratch), link=True)
            known = _model(scratch, Path(scratch), tracking)
        return {**known, "reference": path, "published": True}
    if (folder / "state.json").is_file():
        return {"type": "checkpoint", "path": path, **_checkpoint(folder)}
    # Of a run whose folder of checkpoints is named, the run is told.
    for run in (folder, folder.parent):
        if (run / run_folder.CLAIM).is_file() and (run / "config.yaml").is_file():
            return _run(run) if run == folder or folder.name == "checkpoints" else None
    if seeds := seed_folders(folder):
        return _seeds(folder, seeds)
    return _forecast(path, folder) if is_forecast(folder) else None


def is_forecast(folder: Path) -> bool:
    """Whether a folder holds forecasts as `pelagos forecast` writes them."""
    return (
        all((folder / name).exists() for name in ("zarr.json", LEAD_TIME))
        and not (folder / MANIFEST).exists()
    )


def _model(reference: str, folder: Path, tracking: TrackingConfig) -> dict[str, Any]:
    known = model_versions.description(reference, tracking)
    with safe_open(folder / WEIGHTS, framework="np") as weights:
        shapes = [weights.get_slice(name).get_shape() for name in weights.keys()]  # noqa: SIM118, no mapping
    size = (folder / WEIGHTS).stat().st_size
    return {"type": "model", **known, "weights": sum(map(prod, shapes)), "bytes": size}


def _checkpoint(folder: Path) -> dict[str, Any]:
    checkpoint.verify_checksums(folder)
    saved, values = checkpoint.saved_tensors(folder)
    files = [file.stat().st_size for file in folder.iterdir() if file.is_file()]
    return {
        **{key: values[key] for key in ("step", "samples", "processes") if key in values},
        "holds": saved.groups,
        "skipped": values.get("guard", {}).get("skipped", 0),
        "bytes": sum(files),
    }


def _run(folder: Path) -> dict[str, Any]:
    config = read_yaml(folder / "config.yaml")
    done = _done(folder)
    known: dict[str, Any] = {
        "type": "run",
        "path": str(folder),
        "command": config.get("command", ""),
        "finished": done.get("finished"),
        "inputs": run_folder.record(folder).get("inputs", {}),
        "files": sorted(file.name for file in folder.iterdir() if not file.name.startswith(".")),
    }
    if "loop" in config:
        whole = checkpoint.complete_checkpoints(folder / "checkpoints")
        known |= {
            "steps": config["loop"].get("steps"),
            "checkpoints": [int(one.name.removeprefix("step-")) for one in whole],
            "scores": _latest_scores(folder),
        }
    return known


def _seeds(folder: Path, seeds: dict[int, Path]) -> dict[str, Any]:
    runs = {str(seed): _run(path) for seed, path in seeds.items()}
    command = next(iter(runs.values()))["command"]
    losses = recorded_losses(folder)
    return {"type": "seeds", "path": str(folder), "command": command, "runs": runs, "losses": losses}


def _done(folder: Path) -> dict[str, Any]:
    file = folder / run_folder.DONE
    try:
        return dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else {}
    except ValueError as error:
        raise DamagedFileError(f"{file} is damaged: {error}") from error


def _latest_scores(folder: Path) -> dict[str, dict[str, float]]:
    """The last of each loss that was reported, and its step."""
    found: dict[str, dict[str, float]] = {}
    for record in read_metrics(folder):
        found |= {
            name: {"step": record["step"], "value": value}
            for name, value in record.items()
            if name.startswith(_SCORES)
        }
    return found


def _forecast(path: str, folder: Path) -> dict[str, Any]:
    forecasts = read_forecasts(folder)
    leads = forecasts[LEAD_TIME]
    return {
        "type": "forecast",
        "path": path,
        "attributes": {name: _plain(value) for name, value in forecasts.attrs.items()},
        "samples": {dim: forecasts.sizes[dim] for dim in sample_dims(forecasts)},
        "shape": [forecasts.sizes["y"], forecasts.sizes["x"]],
        "lead_times": {
            "number": int(leads.size),
            "first": _plain(leads.values[0]),
            "last": _plain(leads.values[-1]),
            "units": str(leads.attrs.get("units", "1")),
        },
        "variables": {str(name): _variable(forecasts[name]) for name in forecasts.data_vars},
        "bytes": sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()),
    }


def _variable(field: xr.DataArray) -> dict[str, Any]:
    return {"units": str(field.attrs.get("units", "1")), "dims": list(map(str, field.dims))}


def _plain(value: Any) -> Any:
    if isinstance(value, np.timedelta64):
        return float(value / np.timedelta64(1, "s"))
    return value.item() if isinstance(value, np.generic) else value
