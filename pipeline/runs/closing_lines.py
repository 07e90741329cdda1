"""Closing lines: what a command has written, and what can be done with it next."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pelagos.pipeline.runs.run_folder import DONE
from pelagos.preprocessing.config import Config
from pelagos.preprocessing.store.manifest import MANIFEST


def closing_lines(command: str, config: Any, *, again: bool = False) -> list[str]:
    """The lines that a command ends with; none for one that says all of it itself.

    Args:
        command: that has ended well.
        config: its configuration.
        again: whether it had finished before, so that nothing was left to do.
    """
    lines = _LINES.get(command)
    said = [] if lines is None else list(lines(config))
    return ["this run had finished before; nothing was left to do", *said] if again else said


def time_of_end(config: Config) -> int:
    """When the run in the folder of a configuration was recorded as finished [ns]; 0 where it is not."""
    output = getattr(config, "output", None)
    file = output / DONE if isinstance(output, Path) else None
    return 0 if file is None or not file.is_file() else file.stat().st_mtime_ns


def _simulate(config: Any) -> Iterator[str]:
    yield f"wrote {config.output}: {config.simulation.num_trajectories} trajectories"
    yield f"next: pelagos inspect {config.output} > build.yaml, and pelagos build build.yaml"


def _build(config: Any) -> Iterator[str]:
    store = config.root / config.dataset / f"{config.dataset}-{config.version}.zarr"
    if (store / MANIFEST).exists():  # of a build in parts, only the last completes the store
        yield f"next: pelagos inspect {store} shows it, pelagos init {store} writes configurations for it"


def _pretrain(config: Any) -> Iterator[str]:
    yield from _trained(config)
    yield f"next: pelagos evaluate CONFIG models.NAME={_model(config)} scores it,"
    yield f"      pelagos finetune CONFIG model={_model(config)} adapts it to another store"


def _finetune(config: Any) -> Iterator[str]:
    if config.seeds:
        models = [f"{one.output / 'model'}" for one in config.runs()]
        yield f"models: {', '.join(models)}"
        yield f"next: pelagos evaluate CONFIG models.NAME={models[0]} scores one, several names several"
        return
    yield from _trained(config)
    if config.scratch:
        yield f"all weights started afresh (scratch: true); {_still_taken(config)}"
    else:
        yield from _adapted(config)
    yield f"next: pelagos evaluate CONFIG models.NAME={_model(config)} scores it"


def _still_taken(config: Any) -> str:
    """What a run from fresh weights has of its model all the same."""
    data = config.data
    known = {
        "scales": config.scales == "model",
        "the duration of lead time 1": data.time_scale is None,
        "history": not {"history", "valid_forcing"} & data.model_fields_set,
        "constraints": config.constraints is None,
    }
    taken = ["its kind of network"] if config.network is None else []
    if names := [name for name, kept in known.items() if kept]:
        taken.append(f"what it knows for these data of {', '.join(names)}")
    return f"taken from {config.model}: {' and '.join(taken) or 'nothing'}"


def _trained(config: Any) -> Iterator[str]:
    record = json.loads((config.output / DONE).read_text(encoding="utf-8"))["summary"]
    yield f"model: {_model(config)}, {record['parameters']} parameters, after {record['steps']} steps"


def _adapted(config: Any) -> Iterator[str]:
    file = config.output / "adapted.json"
    if not file.is_file():
        yield f"all weights were copied from {config.model}"
        return
    adapted = json.loads(file.read_text(encoding="utf-8"))
    # Of parts that were asked for, and of new variables.
    fresh = [*adapted.get("parts", ()), *adapted.get("fresh", ())]
    dropped = adapted.get("dropped", ())
    if not fresh and not dropped:
        yield f"all weights were copied from {config.model}"
        return
    yield f"copied from {config.model}: all weights but those below"
    yield f"  started afresh: {', '.join(fresh) or 'none'}"
    if dropped:
        yield f"  left behind: {', '.join(dropped)}"


def _model(config: Any) -> Path:
    return Path(config.output / "model")


def _refine(config: Any) -> Iterator[str]:
    yield f"wrote {config.output / 'refined.zarr'}, forecast.zarr and refinement.json beside it"
    yield f"next: pelagos plot {config.output / 'refined.zarr'}"


def _forecast(config: Any) -> Iterator[str]:
    yield f"next: pelagos inspect {config.output} tells what is in it, pelagos plot {config.output} shows it"


def _evaluate(config: Any) -> Iterator[str]:
    yield f"wrote {config.output / 'report.html'}, and the figures in it as {config.output / 'scores.json'}"
    model = next(iter(config.models.values()))
    yield f"next: open the report; pelagos register CONFIG model={model} keeps a model under a name"


def _sweep(config: Any) -> Iterator[str]:
    report = config.output / "report.html"
    if report.is_file():  # of a sweep in parts, only the last writes it
        yield f"wrote {report}, and every number in it as {config.output / 'efficiency.json'}"


def _register(config: Any) -> Iterator[str]:
    if config.alias is None:
        yield "next: pelagos models promote CONFIG points an alias to it, once it passes the gates"
        return
    yield f"next: models:/{config.name}@{config.alias} stands for it wherever a configuration names a model"


_LINES: dict[str, Callable[[Any], Iterator[str]]] = {
    "simulate": _simulate,
    "build": _build,
    "pretrain": _pretrain,
    "finetune": _finetune,
    "sweep": _sweep,
    "refine": _refine,
    "forecast": _forecast,
    "evaluate": _evaluate,
    "register": _register,
}
