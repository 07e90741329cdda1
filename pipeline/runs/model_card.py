"""Model card: what a reader has to know of a model before using it, in Markdown with the header of Hugging Face."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from safetensors import safe_open

from pelagos.pipeline.runs.domain_fit import unit_text
from pelagos.pipeline.runs.model_checksum import DESCRIPTION, WEIGHTS, model_checksum
from pelagos.pipeline.runs.model_folder import Domain
from pelagos.preprocessing.variables import keys

CARD = "README.md"


@dataclass(frozen=True)
class ScoreLine:
    """A score of the model, with its interval.

    Attributes:
        data: what it was scored on: the store, the split and its checksum.
        name: of the score.
        value: of all forecasts; NaN where it is undefined.
        low: end of the 95 % interval; NaN where there is none.
        high: end of the interval.
        forecasts: that were scored.
        failed: of these, how many are not numbers somewhere.
    """

    data: str
    name: str
    value: float
    low: float
    high: float
    forecasts: int
    failed: int


@dataclass(frozen=True)
class CardFacts:
    """What a card says beyond the model's own description.

    Attributes:
        title: the model's name.
        licence: of the weights, as an SPDX identifier; empty where it is not stated.
        description: a sentence or two of the author's; empty where there are none.
        scores: of evaluations.
        stores: the digest of each store that it was trained on, by the store's name.
        parent: the model that it continues, empty where it continues none.
        parent_checksum: of that model's files, empty where it is not known.
        commit: of the code that trained it, empty where it is not known.
    """

    title: str
    licence: str = ""
    description: str = ""
    scores: Sequence[ScoreLine] = ()
    stores: Mapping[str, str] = field(default_factory=dict)
    parent: str = ""
    parent_checksum: str = ""
    commit: str = ""


def model_card(folder: Path, facts: CardFacts) -> str:
    """The card of the model in a folder."""
    values = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    domains = {name: Domain.model_validate(domain) for name, domain in values["domains"].items()}
    kind = values["network"]["kind"]
    header: dict[str, Any] = {"library_name": "pelagos", "tags": ["pelagos", kind]}
    if facts.licence:
        header["license"] = facts.licence.lower()
    parts = [
        f"---\n{yaml.safe_dump(header, sort_keys=False)}---\n\n# {facts.title}",
        *([facts.description] if facts.description else []),
        f"A network of the kind `{kind}` with {_parameters(folder):,} parameters, made with Pelagos"
        f" {values['pelagos']}{f' (commit {facts.commit})' if facts.commit else ''}.\nChecksum of its files:"
        f" `{model_checksum(folder)}`.",
        *([_parent_line(facts)] if facts.parent else []),
        "## Data\n\n" + "\n".join(_data_lines(domains, facts.stores)),
        "## Scores\n\n" + "\n".join(_score_lines(facts.scores)),
        "## Licence\n\n"
        + (f"{facts.licence}." if facts.licence else "Not stated: ask whoever made the model."),
        "## Limits\n\n" + "\n".join(_limit_lines(domains)),
        "## Stages\n\n" + ("\n".join(f"- {stage}" for stage in values["history"]) or "Not recorded."),
    ]
    return "\n\n".join(parts) + "\n"


def _parent_line(facts: CardFacts) -> str:
    known = f", whose files have the checksum `{facts.parent_checksum}`" if facts.parent_checksum else ""
    return f"It continues {facts.parent}{known}."


def _parameters(folder: Path) -> int:
    """How many numbers the weights are, from the file's header alone."""
    with safe_open(folder / WEIGHTS, "pt") as file:
        return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118


def _data_lines(domains: Mapping[str, Domain], stores: Mapping[str, str]) -> Iterator[str]:
    if not domains:
        yield "The model records no data."
    for name, domain in domains.items():
        yield f"- **{name}**: from {', '.join(keys(domain.inputs))} to {', '.join(keys(domain.outputs))}"
        if domain.scalars:
            yield f"    - parameters: {', '.join(domain.scalars)}"
        if domain.augmentation:
            yield f"    - samples transformed by {', '.join(domain.augmentation)}"
        if (grid := domain.grid) is not None:
            yield (
                f"    - grid: {grid.kind}, {grid.y.points} x {grid.x.points} points, y from {grid.y.first:g} to"
                f" {grid.y.last:g}, x from {grid.x.first:g} to {grid.x.last:g}{unit_text(grid.units)}"
            )
    for store, digest in stores.items():
        yield f"- {store}: checksum `{digest}`"


def _score_lines(scores: Sequence[ScoreLine]) -> Iterator[str]:
    if not scores:
        yield "None were recorded when the model was registered."
        return
    yield "| data | score | value | 95 % interval | forecasts | failed |"
    yield "|---|---|---|---|---|---|"
    for one in scores:
        known = not math.isnan(one.low)
        interval = f"{one.low:.4g} to {one.high:.4g}" if known else "too few forecasts"
        yield f"| {one.data} | {one.name} | {one.value:.4g} | {interval} | {one.forecasts} | {one.failed} |"


def _limit_lines(domains: Mapping[str, Domain]) -> Iterator[str]:
    yield "- It is meant for the variables, grids and lead times above; elsewhere nothing is known of its errors."
    for name, domain in domains.items():
        unit = unit_text(domain.time_units or "1")
        if domain.max_lead:
            yield (
                f"- {name}: trained on lead times from {domain.min_lead:g} to {domain.max_lead:g}{unit}, and on"
                f" forecasts that reach {domain.horizon:g}{unit}"
            )
        else:
            yield f"- {name}: the lead times of its training are not recorded"
        if domain.held:
            yield f"- {name}: {', '.join(domain.held)} were constant, and are forecast as constants"
