"""Drawing of reports: from the folder of an evaluation, what its page says beside the scores, and the page itself."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import yaml

from pelagos.evaluation.forecast_plan import ForecastPlan, ForecastStart
from pelagos.evaluation.forecast_zarr import read_forecasts
from pelagos.evaluation.report.comparison_report import comparison_report
from pelagos.evaluation.report.evaluation_report import evaluation_report
from pelagos.evaluation.report.report_facts import Case, ReportFacts
from pelagos.evaluation.report.score_numbers import numbers_of
from pelagos.evaluation.streaming.score_archive import read_scores
from pelagos.evaluation.streaming.score_plan import TRUTH
from pelagos.evaluation.truth import truth_view
from pelagos.evaluation.verification import Evaluation
from pelagos.pipeline.runs import run_folder
from pelagos.pipeline.runs.configuration import read_yaml
from pelagos.pipeline.tracking import model_registry
from pelagos.pipeline.tracking.code_version import code_version
from pelagos.pipeline.tracking.lineage import Lineage, lineage_of
from pelagos.pipeline.tracking.tracker import TrackingConfig, read_metrics
from pelagos.preprocessing.errors import (
    ConfigError,
    DamagedFileError,
    DataError,
    MissingFileError,
    PelagosError,
)
from pelagos.preprocessing.files.durable import write_json, write_pieces
from pelagos.preprocessing.quantities import dates
from pelagos.preprocessing.safety.credentials import redacted
from pelagos.preprocessing.store.manifest import read_manifest
from pelagos.preprocessing.store.store import Store, open_store
from pelagos.preprocessing.store.xarray_view import xarray_view

REPORT, SCORES, ARCHIVE = "report.html", "scores.json", "scores.zarr"
NUMBERS = ("numbers.csv", "numbers.json")
_SOURCES = 4
"""Sources of a store that are named."""


@dataclass(frozen=True, eq=False)
class EvaluationFolder:
    """What `pelagos evaluate` left in a folder."""

    path: Path

    @cached_property
    def evaluation(self) -> Evaluation:
        """The scores and what they are made of.

        Raises:
            MissingFileError: the folder holds no finished evaluation.
            DamagedFileError: a file is not as it was written.
        """
        file = self.path / SCORES
        if not file.is_file():
            raise MissingFileError(f"{file}: missing; {self.path} holds no finished evaluation")
        try:
            scores = json.loads(file.read_text(encoding="utf-8"))
            return Evaluation(
                scores, {name: kept.load() for name, kept in read_scores(self.path / ARCHIVE).items()}
            )
        except ValueError as error:
            raise DamagedFileError(f"{file}: damaged: {error}; evaluate again into another folder") from error

    @cached_property
    def config(self) -> dict[str, Any]:
        """The configuration of the evaluation, empty where it is not there."""
        file = self.path / "config.yaml"
        return dict(read_yaml(file)) if file.is_file() else {}

    @property
    def title(self) -> str:
        """Of the report."""
        return str(self.config.get("title", "Evaluation"))

    @cached_property
    def inputs(self) -> dict[str, dict[str, str]]:
        """What the evaluation started from: name -> reference, what it stood for, checksum."""
        return dict(run_folder.record(self.path).get("inputs", {}))

    @cached_property
    def model_folders(self) -> dict[str, Path]:
        """Where each model is now, by its name; a path where there is nothing for one that cannot be had."""
        return {name: self._model_folder(name) for name in self.evaluation.scores["models"]}

    def _model_folder(self, name: str) -> Path:
        found = self.inputs.get(f"model {name}", {}).get("found")
        reference = str(found or self.evaluation.scores["models"][name]["model"])
        if not model_registry.is_registered(reference):
            return Path(reference)
        tracking = TrackingConfig.model_validate(self.config.get("tracking", {}))
        try:
            return model_registry.resolve(reference, tracking)
        except PelagosError:
            # Its registry may be away while a report is drawn anew: what is missing is said of the model.
            return Path(reference)

    @property
    def store_checksum(self) -> str:
        """Of the store that was scored; empty where it was not recorded."""
        known = [one["checksum"] for name, one in self.inputs.items() if name.startswith("store ")]
        return known[0] if known else ""

    @property
    def steps(self) -> tuple[int, int]:
        """Frames of a step, and steps of a forecast."""
        starts = self.config.get("starts", {})
        return int(starts.get("stride", 1)), int(starts.get("steps", 1))


def draw(folder: Path) -> Path:
    """Write the report of an evaluation and all of its numbers anew; returns the page's file.

    Raises:
        MissingFileError: the folder holds no finished evaluation.
        DamagedFileError: a file of it is not as it was written.
    """
    found = EvaluationFolder(folder)
    facts, evaluation = gather_facts(found), found.evaluation
    numbers = numbers_of(evaluation, facts.reach)
    for name, pieces in zip(NUMBERS, (numbers.csv(), numbers.json()), strict=True):
        write_pieces(folder / name, (piece.encode() for piece in pieces))
    return evaluation_report(found.title, evaluation, facts, numbers).write(folder / REPORT)


def draw_comparison(folders: Sequence[Path], file: Path) -> Path:
    """Write a report of several evaluations of the same forecasts, and its numbers and tests as JSON beside it.

    Raises:
        ConfigError: it is one evaluation alone, or one twice.
        DataError: they are not of the same forecasts.
        MissingFileError: a folder holds no finished evaluation.
    """
    if len({folder.resolve() for folder in folders}) < max(2, len(folders)):
        raise ConfigError("report compare takes two or more different folders of evaluations")
    found = dict(zip(_names(folders), map(EvaluationFolder, folders), strict=True))
    _require_same_stores(found)
    stride, steps = next(iter(found.values())).steps
    facts = {name: gather_facts(one) for name, one in found.items()}
    runs = {name: one.evaluation for name, one in found.items()}
    report, numbers, tests = comparison_report(runs, stride * steps, facts)
    content = {"tests": tests, "numbers": json.loads("".join(numbers.json()))}
    write_json(file.with_suffix(".json"), content)
    return report.write(file)


def _names(folders: Sequence[Path]) -> list[str]:
    """The folders' own names, or their whole paths where these are the same."""
    names = [folder.resolve().name for folder in folders]
    return names if len(set(names)) == len(names) else [str(folder) for folder in folders]


def _require_same_stores(found: Mapping[str, EvaluationFolder]) -> None:
    known = {name: one.store_checksum for name, one in found.items() if one.store_checksum}
    if len(set(known.values())) > 1:
        stores = ", ".join(f"{name}: {checksum[:12]}" for name, checksum in known.items())
        raise DataError(
            f"the evaluations are of stores of different content ({stores}): evaluate on one of them"
        )


def gather_facts(folder: EvaluationFolder) -> ReportFacts:
    """What is known of an evaluation besides its scores; what cannot be read is said, not passed over."""
    missing: list[str] = []
    store = _opened(folder, missing)
    case = None if store is None else _cases(folder, store, missing)
    models = {name: dict(_model_facts(folder, name)) for name in folder.evaluation.scores["models"]}
    stride, steps = folder.steps
    return ReportFacts(
        data=dict(_store_facts(folder, store)),
        models=models,
        code=dict(_code_facts(run_folder.record(folder.path).get("code", []))),
        configuration=_content(folder.config),
        training={name: records for name in models if (records := read_metrics(_run_of(folder, name)))},
        case=case,
        missing=tuple(missing),
        reach=stride * steps,
        files=(*NUMBERS, SCORES),
    )


def _opened(folder: EvaluationFolder, missing: list[str]) -> Store | None:
    path = folder.config.get("store")
    if path is None:
        missing.append("The configuration is not in the folder, so that single forecasts cannot be shown.")
        return None
    try:
        store = open_store(path)
    except PelagosError as error:
        missing.append(
            f"The store cannot be read, so that single forecasts are not shown: {redacted(str(error))}"
        )
        return None
    if folder.store_checksum and _checksum(store) != folder.store_checksum:
        missing.append(
            f"{path} is another store than the one that was scored: single forecasts are not shown."
        )
        return None
    return store


def _checksum(store: Store) -> str:
    try:
        return read_manifest(store.path).checksum
    except MissingFileError:
        return ""


def _cases(folder: EvaluationFolder, store: Store, missing: list[str]) -> Callable[[int], Case] | None:
    paths = {name: folder.path / "forecasts" / f"{name}.zarr" for name in folder.evaluation.scores["models"]}
    there = {name: path for name, path in paths.items() if path.is_dir()}
    if lost := sorted(set(paths) - set(there)):
        missing.append(
            f"The forecasts of {', '.join(lost)} were not kept: single ones of them are not shown."
        )
    return CaseReader(folder, store, there).read if there else None


@dataclass(frozen=True, eq=False)
class CaseReader:
    """Reads single forecasts of an evaluation, and what they should have been.

    Attributes:
        folder: of the evaluation.
        store: holds the truth.
        paths: of the forecasts, by method.
    """

    folder: EvaluationFolder
    store: Store
    paths: Mapping[str, Path]

    @cached_property
    def _forecasts(self) -> dict[str, xr.Dataset]:
        return {name: read_forecasts(path) for name, path in self.paths.items()}

    def read(self, sample: int) -> Case:
        """The forecast of this number among the samples."""
        truth = self.folder.evaluation.truth
        dims = [dim for dim in ForecastStart._fields if dim in truth.dims]
        place = np.unravel_index(sample, [truth.sizes[dim] for dim in dims])
        chosen = {dim: int(truth[dim].values[at]) for dim, at in zip(dims, place, strict=True)}
        stride, steps = self.folder.steps
        plan = ForecastPlan((chosen["trajectory"],), (chosen["start"],), stride, steps)
        keys = truth["variable"].values.tolist()
        variables = [one for one in self.store.variables if one.key in keys]
        true = truth_view(self.store, plan, variables)
        fields = {
            name: data.sel({dim: chosen[dim] for dim in dims if dim in data.dims})
            for name, data in self._forecasts.items()
        }
        return Case(self._label(chosen), self._dates(chosen["start"], stride, steps), {TRUTH: true, **fields})

    def _label(self, chosen: Mapping[str, int]) -> str:
        calendar = self._calendar
        start = f"frame {chosen['start']}" if calendar is None else _date(calendar[chosen["start"]])
        member = f", member {chosen['member']}" if "member" in chosen else ""
        return f"{chosen['trajectory']} from {start}{member}"

    def _dates(self, start: int, stride: int, steps: int) -> tuple[str, ...]:
        if self._calendar is None:
            return ()
        return tuple(_date(self._calendar[start + stride * step]) for step in range(1, steps + 1))

    @cached_property
    def _calendar(self) -> Any:
        """(T,) the dates of the store's frames; None where its times are no dates."""
        times = xarray_view(self.store)["time"].values
        return times if dates.is_dated(times) else None


def _date(moment: Any) -> str:
    """To the minute, as people write it."""
    return dates.text_of(moment)[:16].replace("T", " ")


def _store_facts(folder: EvaluationFolder, store: Store | None) -> Iterator[tuple[str, str]]:
    for name, one in folder.inputs.items():
        if name.startswith("store "):
            yield "store", one["reference"]
            yield "checksum of the store", f"`{one['checksum']}`"
    if store is None:
        return
    if not folder.inputs:
        yield "store", str(store.path)
    height, width = store.grid.shape
    yield "grid", f"{store.grid.kind}, {height} × {width} points"
    yield from _dates_of_splits(folder, store)
    try:
        manifest = read_manifest(store.path)
    except MissingFileError:
        return
    shown = "; ".join(map(_source_text, manifest.sources[:_SOURCES]))
    more = len(manifest.sources) - _SOURCES
    yield "made from", shown + (f"; and {more} more, all fixed by the store's checksum" if more > 0 else "")
    if licence := manifest.config.get("license"):
        yield "licence of the data", str(licence)
    if manifest.assumptions:
        yield "assumed while building", f"{len(manifest.assumptions)} thing(s); `pelagos inspect` lists them"


def _source_text(source: Mapping[str, Any]) -> str:
    name = redacted(Path(str(source["path"])).name) if "path" in source else redacted(str(dict(source)))
    return f"{name}, SHA-256 `{source['sha256']}`" if source.get("sha256") else name


def _dates_of_splits(folder: EvaluationFolder, store: Store) -> Iterator[tuple[str, str]]:
    times = xarray_view(store)["time"].values
    starts = folder.evaluation.truth["start"].values
    stride, steps = folder.steps
    if dates.is_dated(times):
        last = min(int(starts.max()) + stride * steps, len(times) - 1)
        yield "dates", f"{_date(times[starts.min()])} to {_date(times[last])}"


def _model_facts(folder: EvaluationFolder, name: str) -> Iterator[tuple[str, str]]:
    scores = folder.evaluation.scores["models"][name]
    yield "reference", str(scores["model"])
    if one := folder.inputs.get(f"model {name}"):
        if one["found"] != one["reference"]:
            yield "found as", one["found"]
        yield "checksum", f"`{one['checksum']}`"
    file = folder.model_folders[name] / "model.json"
    if not file.is_file():
        yield "description", "the model is no longer where it was"
        return
    about = json.loads(file.read_text(encoding="utf-8"))
    yield "network", str(about.get("network", {}).get("kind", "unknown"))
    yield "made with", f"Pelagos {about.get('pelagos', 'unknown')}"
    yield "trained on", ", ".join(about.get("domains", {})) or "not recorded"
    history = about.get("history", {})
    yield "stages", " → ".join(history) or "not recorded"
    yield from history.get("finetuned", {}).get("adapted", {}).items()
    yield from _lineage_facts(lineage_of(file.parent, history))


def _lineage_facts(lineage: Lineage) -> Iterator[tuple[str, str]]:
    yield "licence", lineage.licence or "not stated"
    if lineage.parent:
        yield "continues", f"{redacted(lineage.parent)}, checksum `{lineage.parent_checksum}`"
    for store, checksum in lineage.stores.items():
        yield f"learnt from {Path(store).name}", f"{redacted(store)}, checksum `{checksum}`"
    yield "trained by the code", f"`{lineage.commit}`" if lineage.commit else "not recorded"


def _run_of(folder: EvaluationFolder, name: str) -> Path:
    """The folder of the run that trained a model, which is where its records are."""
    return folder.model_folders[name].parent


def _code_facts(scored_by: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    # One that is killed may go on with other code, which then has scored the rest.
    yield "scored by", ", then ".join(map(_code_text, scored_by)) or "not recorded"
    yield "drawn by", _code_text(code_version())


def _code_text(code: Mapping[str, Any]) -> str:
    versions = dict(code["versions"])
    own = f"Pelagos {versions.pop('pelagos')}"
    commit = f", commit `{code['revision']}`" if code["revision"] else ""
    return f"{own}{commit}, with {', '.join(f'{name} {number}' for name, number in versions.items())}"


def _content(config: Mapping[str, Any]) -> str:
    """A configuration without where results are written and which share a process had: neither changes a number."""
    kept = {key: value for key, value in config.items() if key not in ("output", "part")}
    return yaml.safe_dump(kept, sort_keys=False, allow_unicode=True) if kept else ""
