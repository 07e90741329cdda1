"""Registration: a model folder becomes a version in the MLflow registry, with an alias.

The version is a model of MLflow as well, with a card, and says what it was made from.
"""

import re
import tempfile
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator

from pelagos.pipeline.runs import model_folder
from pelagos.pipeline.runs.model_card import CardFacts, model_card
from pelagos.pipeline.runs.model_checksum import model_checksum
from pelagos.pipeline.runs.remarks import say
from pelagos.pipeline.tracking import model_registry
from pelagos.pipeline.tracking.code_version import code_version
from pelagos.pipeline.tracking.evaluation_record import read_evaluation
from pelagos.pipeline.tracking.lineage import lineage_of
from pelagos.pipeline.tracking.mlflow_model import write_wrapping
from pelagos.pipeline.tracking.tracker import TrackingConfig
from pelagos.pipeline.tracking.tracking_server import server_errors
from pelagos.preprocessing.config import Config
from pelagos.preprocessing.files.durable import sole_writer, write_json
from pelagos.preprocessing.files.location import Folder

_ALIAS = re.compile(r"(?i)(?!latest$|v\d+$)[A-Z0-9_-]+")


def _pointable(alias: str) -> str:
    # MLflow's own rules, checked before anything is uploaded.
    if not _ALIAS.fullmatch(alias):
        raise ValueError("an alias has letters, digits, - and _, and is neither `latest` nor a version's v1")
    return alias


Alias = Annotated[str, AfterValidator(_pointable)]
"""What may point to a version."""


class RegisterStage(Config):
    """What to register.

    Attributes:
        model: the model's folder.
        name: the registered model's name; if it exists, it gets a new version, unless one has the same files.
        alias: the alias that is pointed to that version; null for none, where a promotion shall decide on it.
        licence: of the weights, as an SPDX identifier such as CC-BY-4.0, for the card.
        description: a sentence or two for the card: what the model is for.
        evaluations: folders of evaluations of this model, whose scores the card shows.
        output: a JSON file to write the version to.
    """

    command: Literal["register"] = "register"
    model: Path
    name: str = Field(min_length=1)
    alias: Alias | None = "champion"
    licence: str = ""
    description: str = ""
    evaluations: tuple[Path, ...] = ()
    output: Folder | None = None
    tracking: TrackingConfig = TrackingConfig()

    @field_validator("name")
    @classmethod
    def _nameable(cls, name: str) -> str:
        if set(name) & set("/:@"):
            raise ValueError("a model's name must have none of / : @")
        return name

    @field_validator("model")
    @classmethod
    def _folder(cls, folder: Path) -> Path:
        if str(folder).startswith("models:"):
            raise ValueError("only the folder of a model can be registered; this one is registered already")
        return folder


def run(config: RegisterStage) -> model_registry.ModelVersion:
    """Register the model of a configuration.

    Raises:
        PelagosError: the folder holds no model, or a damaged one.
        LockedError: another process writes the same output.
    """
    with sole_writer(config.output) if config.output is not None else nullcontext():
        return _register(config)


def _register(config: RegisterStage) -> model_registry.ModelVersion:
    # Loaded to verify it: a damaged model must not get an alias.
    model = model_folder.load(config.model)
    place = config.tracking, config.model, config.name, config.alias
    with server_errors(config.tracking.uri):
        known = model_registry.registered(*place)
    version = known or _new_version(config, model)
    if config.output is not None:
        write_json(config.output, asdict(version))
    if known is not None and (config.licence or config.description or config.evaluations):
        say("note: the version keeps the card and the licence that it was registered with")
    how = "registered" if known is None else "registered already, with the same files"
    print(
        f"{how}: models:/{version.name}{f'@{version.alias}' if version.alias else ''} is version {version.version}"
    )
    return version


def _new_version(config: RegisterStage, model: model_folder.Model) -> model_registry.ModelVersion:
    made_from = replace(
        lineage_of(config.model, model.history),
        licence=config.licence,
        registered_by=code_version()["revision"] or "",
    )
    checksum = model_checksum(config.model)
    facts = CardFacts(
        title=config.name,
        licence=config.licence,
        description=config.description,
        scores=[line for folder in config.evaluations for line in read_evaluation(folder).lines(checksum)],
        stores=made_from.stores,
        parent=made_from.parent,
        parent_checksum=made_from.parent_checksum,
        commit=made_from.commit,
    )
    card = model_card(config.model, facts)
    with tempfile.TemporaryDirectory(prefix="pelagos-") as scratch:
        write_wrapping(Path(scratch), model, card)
        made_from.write(Path(scratch))
        with server_errors(config.tracking.uri):
            run_id = _run_id(config)
            if made_from.stores:
                config.tracking.client().log_inputs(run_id, made_from.dataset_inputs("training"))
        return model_registry.register(
            config.tracking, config.model, config.name, config.alias, run_id, Path(scratch), made_from.tags()
        )


def _run_id(config: RegisterStage) -> str:
    """The MLflow run that trained the model, if its folder names one that the server has; otherwise a new run."""
    marker = config.model.parent / "mlflow_run"
    client = config.tracking.client()
    if marker.is_file():
        run_id = marker.read_text().strip()
        if run_id and model_registry.has_run(client, run_id):
            return run_id
        print(
            f"note: the run {run_id} that trained the model is not at {config.tracking.uri};"
            " the version belongs to a new run"
        )
    created = client.create_run(config.tracking.experiment_id(), run_name=f"register {config.name}")
    client.set_terminated(created.info.run_id)
    return str(created.info.run_id)
