"""Output text: a model, a run or a forecast on one screen, and what can be done with it next."""

from collections.abc import Iterator, Mapping
from typing import Any


def describe_output(known: Mapping[str, Any]) -> str:
    """The facts of `output_facts` as text."""
    return "\n".join(_LINES[known["type"]](known))


def _model_lines(known: Mapping[str, Any]) -> Iterator[str]:
    reference = known["reference"]
    yield f"model {reference}, version {known['pelagos']} of Pelagos"
    yield f"network     {known['network']['kind']}, {known['weights']} weights, {_megabytes(known['bytes'])}"
    if known["signature"]["scalars"]:
        yield f"conditions  {', '.join(known['signature']['scalars'])}"
    yield f"made by     {' -> '.join(known['history']) or 'not recorded'}"
    yield f"checksum    {known['checksum'][:16]}"
    for key in ("aliases", "created", "run"):
        if known.get(key):
            yield f"{key:11} {', '.join(known[key]) if key == 'aliases' else known[key]}"
    for name, domain in known["domains"].items():
        yield from ("", f"dataset {name}", *_domain_lines(domain))
    yield ""
    if known.get("published"):
        yield f"pelagos models pull {reference} FOLDER      makes it a model's folder, which the commands take"
        return
    yield f"pelagos evaluate CONFIG models.NAME={reference}      score it beside others"
    yield f"pelagos forecast CONFIG model={reference}            forecasts from the frames of a store"
    yield f"pelagos finetune CONFIG model={reference}            adapt it to another store"


def _domain_lines(domain: Mapping[str, Any]) -> Iterator[str]:
    for part in ("inputs", "outputs"):
        yield f"  {part:9} {', '.join(_names(domain[part]))}"
    units = "" if domain.get("time_units") in (None, "1") else f" {domain['time_units']}"
    if domain.get("max_lead"):
        yield (
            f"  lead time {domain['min_lead']:g} to {domain['max_lead']:g}{units}, rollouts to"
            f" {domain['horizon']:g}{units}"
        )
    if grid := domain.get("grid"):
        height, width = (grid[axis]["points"] for axis in ("y", "x"))
        yield f"  grid      {grid['kind']}, {height} x {width}"


def _names(variables: list[dict[str, Any]]) -> list[str]:
    return [
        one["name"] if one.get("level") is None else f"{one['name']}@{one['level']:g}" for one in variables
    ]


def _run_lines(known: Mapping[str, Any]) -> Iterator[str]:
    folder, steps = known["path"], known.get("steps")
    yield f"run of pelagos {known['command']} in {folder}"
    if steps is not None:
        yield f"state       {_state(known)}"
    for name, found in known["inputs"].items():
        reference = "" if name.endswith(f" {found['found']}") else f" ({found['found']})"
        yield f"began with  {name}{reference}, checksum {found['checksum'][:12]}"
    for name, score in known.get("scores", {}).items():
        yield f"{name}: {score['value']:.4g} at step {score['step']}"
    yield f"holds       {', '.join(known['files'])}"
    yield ""
    if known["finished"] and "model" in known["files"]:
        yield f"pelagos inspect {folder}/model      its model"
    elif steps is not None:
        yield "the command that began it continues it"
    else:
        yield f"pelagos inspect {folder}/FILE      a model or forecast among these"


def _state(known: Mapping[str, Any]) -> str:
    """How far a run has come, of which only training keeps account."""
    if known.get("steps") is None:
        return f"holds {', '.join(known['files'])}"
    reached = max(known["checkpoints"], default=0)
    state = f"finished {known['finished']}" if known["finished"] else "not finished"
    return f"{state}, newest checkpoint {reached} of {known['steps']} steps"


def _seeds_lines(known: Mapping[str, Any]) -> Iterator[str]:
    folder, runs = known["path"], known["runs"]
    yield f"{len(runs)} run(s) of pelagos {known['command']} in {folder}, which differ in their seed"
    for seed, run in runs.items():
        name = f"seed{seed}"
        yield f"{name:11} {_state(run)}"
    if known["losses"]:
        # Loads torch, which a look at an archive need not wait for.
        from pelagos.pipeline.stages.seed_runs import loss_table

        yield from ("", *loss_table(known["losses"]))
    yield ""
    models = [seed for seed, run in runs.items() if run["finished"] and "model" in run["files"]]
    chosen = " ".join(f"models.seed{seed}={folder}/seed{seed}/model" for seed in models)
    yield f"pelagos inspect {folder}/seed{next(iter(runs))}      one of them"
    if models:
        yield f"pelagos evaluate CONFIG {chosen}      scores their models"


def _checkpoint_lines(known: Mapping[str, Any]) -> Iterator[str]:
    yield f"checkpoint {known['path']}, whole: every file matches its checksum"
    yield f"after       {known['step']} steps, {known.get('samples', '?')} samples, {known['skipped']} step(s) skipped"
    yield f"written by  {known.get('processes', '?')} process(es); any number can continue from it"
    yield f"holds       {', '.join(known['holds'])}, {_megabytes(known['bytes'])}"
    yield ""
    yield "the command that began the run continues from its newest checkpoint"


def _forecast_lines(known: Mapping[str, Any]) -> Iterator[str]:
    samples = ", ".join(f"{size} {dim}" for dim, size in known["samples"].items())
    leads, (height, width) = known["lead_times"], known["shape"]
    units = "" if leads["units"] == "1" else f" {leads['units']}"
    yield f"forecast {known['path']}, {_megabytes(known['bytes'])}"
    yield f"dataset     {known['attributes'].get('dataset', 'not recorded')}"
    yield f"samples     {samples}"
    yield f"lead times  {leads['number']} from {leads['first']:g} to {leads['last']:g}{units}"
    yield f"grid        {height} x {width}"
    if model := known["attributes"].get("model"):
        yield f"made by     {model}, checksum {known['attributes'].get('model_checksum', 'not recorded')[:16]}"
    for name, one in known["variables"].items():
        yield f"  {name} [{one['units']}]"
    yield ""
    yield f"pelagos plot {known['path']}      pictures of it"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.3g} MB"


_LINES = {
    "model": _model_lines,
    "run": _run_lines,
    "seeds": _seeds_lines,
    "checkpoint": _checkpoint_lines,
    "forecast": _forecast_lines,
}
