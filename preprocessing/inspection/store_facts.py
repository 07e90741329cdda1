"""Store facts: what a store holds, for programs."""

from collections.abc import Iterator
from math import prod
from typing import Any

from pelagos.preprocessing.store.manifest import Manifest
from pelagos.preprocessing.store.store import Store
from pelagos.preprocessing.variables import Variable


def store_facts(store: Store, manifest: Manifest) -> dict[str, Any]:
    """What a store holds, in JSON's types; null stands for what is not known."""
    assumed = store.assumptions
    return {
        "type": "store",
        "path": str(store.path),
        "dataset": store.dataset,
        "version": store.version,
        "trajectories": store.num_trajectories,
        "frames": store.num_times,
        "shape": list(store.grid.shape),
        "grid": store.grid.kind,
        "boundary_y": list(store.grid.boundary_y),
        "boundary_x": list(store.grid.boundary_x),
        "time_step": store.dt,
        "time_units": store.time_units,
        "scalars": list(store.params),
        "missing": store.num_missing,
        "splits": {
            name: {"trajectories": int(frames.any(axis=1).sum()), "frames": int(frames.sum())}
            for name, frames in store.splits.items()
        },
        "dtype": manifest.config.get("dtype", "float32"),
        "variables": [*_variables(store, roundings(store, manifest))],
        "assumptions": None if assumed is None else [one.code for one in assumed],
        "bytes": sum(file.bytes for file in manifest.files.values()),
        "files": len(manifest.files),
        "sources": [record["path"] for record in manifest.sources],
        "checksum": manifest.checksum,
    }


def variable_statistics(store: Store) -> list[tuple[Any, ...]]:
    """Each variable, then each static one, with its count, mean, deviation, constancy, minimum and maximum."""
    stats = store.stats
    state = (stats.count, stats.mean, stats.std, stats.constant, stats.minimum, stats.maximum)
    static = (stats.static_count, stats.static_mean, stats.static_std, stats.static_constant)
    extremes = (stats.static_minimum, stats.static_maximum)
    return [
        *zip(store.variables, *state, strict=True),
        *zip(store.static_variables, *static, *extremes, strict=True),
    ]


def missing_share(store: Store, variable: Variable, count: float) -> float | None:
    """The share of a variable's training values that are missing; None for what is not counted frame by frame."""
    values = int(store.splits["train"].sum()) * prod(store.grid.shape)
    # Static fields count once for each trajectory that trains, or once for all.
    return None if variable.role == "static" or not values else 1 - count / values


def roundings(store: Store, manifest: Manifest) -> dict[str, dict[str, float | None]]:
    """What 16 bits changed in each variable, as shares of its deviations; empty of a store in float32.

    `of_increments` compares differences between consecutive frames with their deviation, and is None of static fields.
    """
    if manifest.coding is None:
        return {}
    stats, state, static = store.stats, manifest.coding["state"], manifest.coding["static"]
    found = {}
    for number, variable in enumerate(store.variables):
        found[variable.key] = {
            "of_values": state["rms_error"][number] / float(stats.std[number]),
            "of_increments": state["increment_rms_error"][number] / float(stats.tendency_std[number]),
            "largest": state["largest_error"][number],
        }
    for number, variable in enumerate(store.static_variables):
        share = static["rms_error"][number] / float(stats.static_std[number])
        found[variable.key] = {
            "of_values": share,
            "of_increments": None,
            "largest": static["largest_error"][number],
        }
    return found


def _variables(store: Store, roundings: dict[str, dict[str, float | None]]) -> Iterator[dict[str, Any]]:
    for variable, count, mean, std, constant, minimum, maximum in variable_statistics(store):
        numbers = {"mean": mean, "std": std, "minimum": minimum, "maximum": maximum}
        yield {
            "name": variable.key,
            "role": variable.role,
            "units": variable.units,
            # Of nothing there is no mean, and JSON has no NaN.
            **{name: float(number) if count else None for name, number in numbers.items()},
            "constant": bool(constant) and bool(count),
            "missing_share": missing_share(store, variable, float(count)),
            **({"rounding": roundings[variable.key]} if roundings else {}),
        }
