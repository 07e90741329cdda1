"""Promotion: an alias moves to another version if that one passes its gates, or the message says which it does not."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field, field_validator

from pelagos.evaluation.conventions.score_reduction import compute_value, score_by_sample
from pelagos.evaluation.inference.paired_test import paired_test
from pelagos.pipeline.runs import model_folder
from pelagos.pipeline.stages.register import Alias
from pelagos.pipeline.tracking import model_registry
from pelagos.pipeline.tracking.evaluation_record import ROLLOUT, EvaluationRecord, read_evaluation
from pelagos.pipeline.tracking.model_registry import RegisteredVersion
from pelagos.pipeline.tracking.tracker import TrackingConfig
from pelagos.pipeline.tracking.version_files import CHECKSUM_TAG
from pelagos.preprocessing.array_types import Flags
from pelagos.preprocessing.config import Config
from pelagos.preprocessing.errors import DamagedFileError, DataError, MissingFileError
from pelagos.preprocessing.files.durable import write_json
from pelagos.preprocessing.files.location import Folder


class BetterGate(Config):
    """The version has to be better than the one that the alias points to, start by start on the same starts.

    Attributes:
        level: the largest probability of a difference this large by chance (of the paired bootstrap over blocks).
        by: the least share of the champion's error by which the version's has to be smaller.
    """

    level: float = Field(default=0.05, gt=0, lt=1)
    by: float = Field(default=0.0, ge=0, lt=1)


class Gates(Config):
    """What a version has to pass.

    Attributes:
        better: than the version that the alias points to, by a paired test; null for no such gate. Where the alias
            points to none, there is nothing to be better than, and that is said.
        finite: whether all of its forecasts have to be numbers, to the longest lead time of the evaluation.
        checksum: whether every byte of it is compared with what was registered, and the model is loaded.
    """

    better: BetterGate | None = BetterGate()
    finite: bool = True
    checksum: bool = True


class PromoteStage(Config):
    """Which version an alias shall point to.

    Attributes:
        model: the version, models:/NAME/VERSION or models:/NAME@ALIAS.
        alias: the alias that is moved.
        evaluation: the folder of an evaluation that scored both the version and the one that the alias points to; null
            where no gate needs one.
        gates: what the version has to pass.
        output: a JSON file to write the outcome of each gate to.
        tracking: where the registry is.
    """

    command: Literal["promote"] = "promote"
    model: str
    alias: Alias = "champion"
    evaluation: Path | None = None
    gates: Gates = Gates()
    output: Folder | None = None
    tracking: TrackingConfig = TrackingConfig()

    @field_validator("model")
    @classmethod
    def _registered(cls, model: str) -> str:
        if not model_registry.is_registered(model):
            raise ValueError(
                "only a registered version is promoted: models:/NAME/VERSION; see `pelagos register`"
            )
        return model


@dataclass(frozen=True)
class GateOutcome:
    """What came of a gate.

    Attributes:
        gate: its name.
        passed: whether the version may pass.
        reason: the numbers behind it.
    """

    gate: str
    passed: bool
    reason: str


def run(config: PromoteStage) -> list[GateOutcome]:
    """Try the gates, and move the alias if all are passed.

    Raises:
        MissingFileError: there is no such version or evaluation.
        DataError: a gate is not passed; the message lists all of them.
    """
    version = model_registry.version(config.model, config.tracking)
    champion = _champion(config, version)
    outcomes = _outcomes(config, version, champion)
    if config.output is not None:
        write_json(config.output, {"version": version.reference, "gates": list(map(asdict, outcomes))})
    listed = "\n".join(
        f"  {'passed' if one.passed else 'FAILED'}  {one.gate}: {one.reason}" for one in outcomes
    )
    if failed := [one.gate for one in outcomes if not one.passed]:
        raise DataError(
            f"{version.reference} is not promoted to {config.alias}: {', '.join(failed)} failed\n{listed}"
        )
    model_registry.point_alias(config.tracking, version, config.alias)
    print(f"promoted: models:/{version.name}@{config.alias} is version {version.version}\n{listed}")
    return outcomes


def _champion(config: PromoteStage, version: RegisteredVersion) -> RegisteredVersion | None:
    """The version that the alias points to; None where it points to none, or to this one."""
    for other in model_registry.versions(config.tracking, version.name):
        if config.alias in other.aliases and other.version != version.version:
            return other
    return None


def _outcomes(
    config: PromoteStage, version: RegisteredVersion, champion: RegisteredVersion | None
) -> list[GateOutcome]:
    gates = config.gates
    outcomes = [_checksum(config, version)] if gates.checksum else []
    asked: list[Callable[[EvaluationRecord], GateOutcome]] = []
    if gates.finite:
        asked.append(lambda record: _finite(record, version))
    if gates.better is not None and champion is None:
        reason = f"{config.alias} points to no other version, so there is nothing to be better than"
        outcomes.append(GateOutcome("better", True, reason))
    elif gates.better is not None and champion is not None:
        gate, holder = gates.better, champion
        asked.append(lambda record: _better(record, version, holder, gate))
    if not asked:
        return outcomes
    if config.evaluation is None:
        missing = GateOutcome(
            "evaluation", False, "the gates need scores: give evaluation=FOLDER, of pelagos evaluate"
        )
        return [*outcomes, missing]
    record = read_evaluation(config.evaluation)
    return [*outcomes, *(ask(record) for ask in asked)]


def _checksum(config: PromoteStage, version: RegisteredVersion) -> GateOutcome:
    try:
        model_folder.load(model_registry.resolve(version.reference, config.tracking))
    except (DamagedFileError, MissingFileError) as error:
        return GateOutcome("checksum", False, str(error))
    return GateOutcome("checksum", True, "every file is as it was registered")


def _finite(record: EvaluationRecord, version: RegisteredVersion) -> GateOutcome:
    statistics = record.scores.statistics[record.name_of(version.tags[CHECKSUM_TAG])]
    failed_SL: Flags = np.asarray(statistics.failed.any(axis=2))
    count, total = int(failed_SL.any(axis=1).sum()), len(failed_SL)
    reach = f"{total} forecasts to the lead time {statistics.lead_times[-1]:g}"
    if not count:
        return GateOutcome("finite", True, f"all of {reach} are numbers")
    first = statistics.lead_times[int(np.argmax(failed_SL.any(axis=0)))]
    return GateOutcome("finite", False, f"{count} of {reach} are not numbers, the first at {first:g}")


def _better(
    record: EvaluationRecord, version: RegisteredVersion, champion: RegisteredVersion, gate: BetterGate
) -> GateOutcome:
    """Whether the mean error is smaller by so much, and by more than chance."""
    ours, theirs = (
        record.scores.statistics[record.name_of(one.tags[CHECKSUM_TAG])] for one in (version, champion)
    )
    if ours.variables != theirs.variables:
        reason = (
            f"it forecasts {', '.join(ours.variables)}, {champion.reference} {', '.join(theirs.variables)}"
        )
        return GateOutcome("better", False, reason)
    ours_B, theirs_B = (compute_value(ROLLOUT, one, record.scores.counts) for one in (ours, theirs))
    # Better by a share of the champion's error: better than an error that is smaller by that share.
    wanted_B, wanted_S = (1 - gate.by) * theirs_B, (1 - gate.by) * score_by_sample(ROLLOUT, theirs)
    test = paired_test(score_by_sample(ROLLOUT, ours), wanted_S, (ours_B, wanted_B), record.scores.blocks)
    passed = bool(ours_B[0] < wanted_B[0] and test.bootstrap_p <= gate.level)
    few = "; few starts, so that the test is only a hint" if record.scores.blocks.few else ""
    reason = (
        f"{ROLLOUT.name} {ours_B[0]:.4g}, of {champion.reference} {theirs_B[0]:.4g}; p = {test.bootstrap_p:.2g} where"
        f" {gate.level:g} is allowed, lower in {test.lower} of {record.scores.blocks.count} blocks of starts{few}"
    )
    return GateOutcome("better", passed, reason)
