"""Adaptation facts: what fine-tuning takes over from a model, what is new in its data, and what differs."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pelagos.models.adapt import Adaptation
from pelagos.models.context import Signature
from pelagos.models.layers.conditioning import AxisKind
from pelagos.pipeline.runs.domain_fit import level_units, unit_text
from pelagos.pipeline.runs.model_folder import Domain, Model
from pelagos.pipeline.runs.trained_grid import TrainedAxis, TrainedGrid
from pelagos.pipeline.stages.inherited_weights import FreshParts
from pelagos.preprocessing.files.durable import write_json
from pelagos.preprocessing.samples.dataset import Dataset
from pelagos.preprocessing.variables import keys

RECORD = "adapted.json"


def adaptation_facts(
    source: Model, dataset: Dataset, signature: Signature, fresh: FreshParts
) -> dict[str, str]:
    """What becomes of the model's variables, levels and parameters, and how its grid and its lead times compare.

    Args:
        source: the model that is fine-tuned.
        dataset: what it is fine-tuned on.
        signature: of the network that is.
        fresh: its parts that take nothing over.
    """
    return dict(_facts(source, dataset, signature, fresh))


def write_record(
    folder: Path, adaptation: Adaptation | None, fresh: FreshParts, facts: Mapping[str, str]
) -> None:
    """Keep in a run's folder which weights were copied, and the facts; None where no variable is new or gone."""
    slices = {} if adaptation is None else asdict(adaptation)
    write_json(folder / RECORD, {**slices, "parts": list(fresh.keys), "facts": dict(facts)})


def record_lines(folder: Path) -> list[str]:
    """What a run's folder tells of the adaptation, as lines; none where it began with fresh weights."""
    file = folder / RECORD
    if not file.is_file():
        return []
    record: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return [f"{name}: {text}" for name, text in record.get("facts", {}).items()]


def _facts(
    source: Model, dataset: Dataset, signature: Signature, fresh: FreshParts
) -> Iterator[tuple[str, str]]:
    layout, store = dataset.layout, dataset.store
    here = Signature(keys(layout.inputs), keys(layout.outputs), layout.scalars)
    if fresh.keys:
        yield "new", str(fresh)
    rows: tuple[tuple[str, str, AxisKind], ...] = (
        ("inputs", "inputs", "input"),
        ("outputs", "outputs", "output"),
        ("parameters", "scalars", "condition"),
    )
    for name, kind, axis in rows:
        old, new, data = (set(getattr(one, kind)) for one in (source.signature, signature, here))
        yield from _fates(name, getattr(signature, kind), set() if axis in fresh.kinds else old, new, data)
    known = _domains(source, dataset)
    if units := {domain.level_units for domain in known if domain.level_units}:
        yield "levels", _beside(level_units(store) or "none", units)
    grid, grids = TrainedGrid.of(store.grid), [one.grid for one in known if one.grid is not None]
    if grids:
        yield "grid", _beside(_grid_text(grid), (_grid_text(one) for one in grids))
        yield "boundary", _beside(_boundary_text(grid), (_boundary_text(one) for one in grids))
    if store.num_times > 1:
        time = _time_text(layout.time_scale, store.time_units)
        yield "lead time 1", _beside(time, (_time_text(one.time_scale, one.time_units) for one in known))
    yield "scales", _scales_text(source, dataset)


def _fates(
    name: str, ordered: Sequence[str], old: set[str], new: set[str], data: set[str]
) -> Iterator[tuple[str, str]]:
    for verb, chosen in (
        ("copied", old & new & data),
        ("new, from fresh weights", new - old),
        ("known to the model, not in the data", old & new - data),
        ("dropped", (old | data) - new),
    ):
        # In the order of the network's weights, then of names.
        found = [one for one in ordered if one in chosen] + sorted(chosen - set(ordered))
        if found:
            yield f"{name} {verb}", ", ".join(found)


def _domains(source: Model, dataset: Dataset) -> list[Domain]:
    """What the model knows of the data: of the same dataset, or else of all of its own."""
    same = source.domains.get(dataset.layout.dataset)
    return list(source.domains.values()) if same is None else [same]


def _beside(here: str, training: Iterable[str]) -> str:
    known = list(dict.fromkeys(training))
    if known == [here]:
        return f"{here}, as in training"
    return f"{here}; in training {' or '.join(known) or 'not recorded'}"


def _grid_text(grid: TrainedGrid) -> str:
    y, x = (f"{axis.spacing:.4g}" for axis in (grid.y, grid.x))
    return f"{grid.kind}, {grid.y.points} x {grid.x.points}, {y} by {x}{unit_text(grid.units)} apart"


def _boundary_text(grid: TrainedGrid) -> str:
    def word(axis: TrainedAxis) -> str:
        if axis.sides is None:
            return "periodic" if axis.periodic else "walls or open"
        return " and ".join(dict.fromkeys(axis.sides))

    return f"{word(grid.y)} along y, {word(grid.x)} along x"


def _time_text(scale: float, units: str | None) -> str:
    return f"{scale:.6g}{unit_text(units or '1')}"


def _scales_text(source: Model, dataset: Dataset) -> str:
    normalizer = dataset.normalizer
    kept: list[str] = []
    own: list[str] = []
    for key, mean, std in zip(normalizer.keys, normalizer.mean, normalizer.std, strict=True):
        known = [domain.scales[key] for domain in source.domains.values() if key in domain.scales]
        same = any(math.isclose(one.mean, mean) and math.isclose(one.std, std) for one in known)
        (kept if same else own).append(key)
    parts = (("the model's of", kept), ("the data's of", own))
    return "; ".join(f"{whose} {', '.join(names)}" for whose, names in parts if names)
