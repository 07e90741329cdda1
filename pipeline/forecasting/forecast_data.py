"""Forecast data: where a forecast starts from and where its forcings come from, as a configuration says it."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from pydantic import Field, model_validator

from pelagos.evaluation.forecast_plan import ForecastPlan
from pelagos.pipeline.forecasting.archive_store import archive_store, recognised_source
from pelagos.pipeline.forecasting.ensemble import EnsembleConfig, OtherStarts
from pelagos.pipeline.forecasting.forcing_supply import ForcingSupply
from pelagos.pipeline.runs.model_folder import Domain, Model
from pelagos.preprocessing.build.source_records import record_sources
from pelagos.preprocessing.config import Config
from pelagos.preprocessing.errors import ConfigError, DataError
from pelagos.preprocessing.fields.field_options import FieldOptions
from pelagos.preprocessing.files.durable import json_checksum
from pelagos.preprocessing.files.location import Location
from pelagos.preprocessing.sources.file_source import FileSource
from pelagos.preprocessing.sources.formats.source import Source
from pelagos.preprocessing.store.small_files import manifest_of
from pelagos.preprocessing.store.store import Store, open_store


class FieldsPlace(Config):
    """Where fields are: in a store, or in an archive that no store has been built from.

    Attributes:
        store: a store.
        archive: a file, folder or quoted pattern of any format that `pelagos inspect` recognises.
        source: the same with the options of its format, as a build has them.
        fields: how the fields of an archive are read beyond what the model says: rename, regrid, subset, ...
    """

    store: Location | None = None
    archive: str = ""
    source: Source | None = None
    fields: FieldOptions = FieldOptions()

    @model_validator(mode="after")
    def _one_place(self) -> "FieldsPlace":
        given = [name for name in ("store", "archive", "source") if getattr(self, name)]
        if len(given) > 1:
            raise ValueError(f"give one of store, archive and source, not {' and '.join(given)}")
        if self.store and self.fields != FieldOptions():
            raise ValueError("fields is for archives: a store has its fields as they were built")
        return self

    @property
    def is_given(self) -> bool:
        """Whether there is a place at all."""
        return bool(self.store or self.archive or self.source)

    def open(self, domain: Domain, dataset: str, step: float | None = None) -> Store:
        """The place as a store, in the form that a model knows its dataset in.

        Raises:
            ConfigError: an option contradicts the data, or a question about them is open.
            DataError: no format recognises the archive, or it lacks what the model needs.
        """
        if self.store:
            return open_store(self.store)
        return archive_store(self._source(), domain, dataset, self.fields, step)

    def digest(self) -> str:
        """What tells the content of the place from another: of files their sizes and times, of a store its manifest."""
        if self.store:
            manifest = manifest_of(self.store)
            return "" if manifest is None else manifest.checksum
        if not self.is_given:
            return ""
        source = self._source()
        places = source.places() if isinstance(source, FileSource) else ()
        return json_checksum([one.to_json() for one in record_sources(map(str, places))])

    def _source(self) -> Any:
        return self.source or recognised_source(self.archive)


class ForcingsConfig(FieldsPlace):
    """Where forcings, static fields and scalars come from that the start does not hold.

    Those of the sun's position are computed from the clock wherever there are dates.

    Attributes:
        hold: forcings that keep their last value beyond the data.
        scalars: values by name.
    """

    hold: tuple[str, ...] = ()
    scalars: dict[str, float] = Field(default_factory=dict)

    def supply(self, store: Store, domain: Domain) -> ForcingSupply:
        """The supply of forecasts that start from a store.

        Raises:
            DataError: the other store is on another grid.
            ConfigError: a scalar is none of the model's.
        """
        if unknown := sorted(set(self.scalars) - set(domain.scalars)):
            raise ConfigError(
                f"forcings.scalars: {unknown[0]!r} is no scalar of the model, which has"
                f" {', '.join(domain.scalars) or 'none'}"
            )
        other = self.open(domain, store.dataset) if self.is_given else None
        if other is not None:
            _require_same_grid(store, other)
        return ForcingSupply(store, other, self.hold, self.scalars)


def start_digest(store: Store, plan: ForecastPlan, ensemble: EnsembleConfig | None) -> str:
    """The SHA-256 of all fields at the frames that forecasts start from, as they are read."""
    samples = [one for start in plan.starts for one in plan.samples_at(start)]
    if ensemble is not None:
        samples = [ensemble.source(one, len(plan.members)) for one in samples]
    digest = hashlib.sha256()
    for trajectory, start in dict.fromkeys((one.trajectory, one.start) for one in samples):
        digest.update(np.ascontiguousarray(store.read(trajectory, start, start + 1)).data)
    return digest.hexdigest()


def _require_same_grid(store: Store, other: Store) -> None:
    for axis in ("y", "x"):
        one, two = getattr(store.grid, axis), getattr(other.grid, axis)
        if one.shape != two.shape or abs(one - two).max() > 1e-3 * min(store.grid.spacing):
            raise DataError(
                f"{other.path} has {len(two)} points along {axis} from {two[0]:g} to {two[-1]:g}, {store.path}"
                f" {len(one)} from {one[0]:g} to {one[-1]:g}: forcings must be on the grid of the start"
            )


def dataset_name(models: Sequence[Model], dataset: str) -> str:
    """The name by which models know an archive: the only one that they have, unless one is given.

    Raises:
        ConfigError: they know several.
    """
    if dataset:
        return dataset
    known = list(models[0].domains)
    if len(known) > 1:
        raise ConfigError(
            f"the model knows the datasets {', '.join(known)}: say which one this is by dataset=NAME"
        )
    return known[0]


def with_members(plan: ForecastPlan, store: Store, ensemble: EnsembleConfig, models: int) -> ForecastPlan:
    """The plan with the members of an ensemble.

    Raises:
        ConfigError: the members would be the same.
        DataError: the store has not a trajectory for each of them.
    """
    count = ensemble.count(models)
    plan = replace(plan, members=tuple(range(count)))
    if not isinstance(ensemble.starts, OtherStarts):
        return plan
    if given := ensemble.starts.trajectories:
        if max(given) >= store.num_trajectories:
            raise DataError(
                f"{store.path} has {store.num_trajectories} trajectories; ensemble.starts.trajectories names"
                f" {max(given)}"
            )
        return replace(plan, trajectories=given[:1])
    if store.num_trajectories % count:
        raise DataError(
            f"{store.path} has {store.num_trajectories} trajectories, which are not {count} members of each"
        )
    return replace(plan, trajectories=tuple(range(store.num_trajectories // count)))
