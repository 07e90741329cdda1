"""Loaded model: a model from the registry or a folder, for programs: forecasts of datasets and of arrays.

Shapes: B samples, K steps, C channels, H rows, W columns.
"""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pelagos.pipeline.runs import model_folder, published_folder
from pelagos.pipeline.runs.model_folder import Domain, Model
from pelagos.pipeline.runs.trained_grid import TrainedAxis
from pelagos.preprocessing.errors import DataError, MissingFileError
from pelagos.preprocessing.variables import Variable, keys

if TYPE_CHECKING:
    from pelagos.pipeline.tracking.tracker import TrackingConfig


class LoadedModel:
    """A model that makes forecasts.

    Attributes:
        model: its network and what it knows of datasets.
        reference: as it was asked for.
    """

    def __init__(self, model: Model, reference: str) -> None:
        self.model, self.reference = model, reference

    @property
    def datasets(self) -> tuple[str, ...]:
        """The names of the datasets that it knows."""
        return tuple(self.model.domains)

    def forecast(self, start: xr.Dataset, steps: int, **options: Any) -> xr.Dataset:
        """Forecasts from the last frame of a dataset: (trajectory, start, [member,] lead_time, y, x), by CF.

        Args:
            start: fields by the names that the model knows, over ([trajectory, member, time, level,] y, x) or latitudes
                and longitudes.
            steps: how many.
            options: of `forecast_dataset`: dataset, step, forcings, ensemble, mode, batch, threads.

        Raises:
            DataError: `start` lacks what the model needs, or a forcing is not known for all steps.
            ConfigError: an option contradicts the data.
        """
        # Loaded where it is asked for: what reads datasets brings SciPy.
        from pelagos.pipeline.forecasting.forecast_dataset import forecast_dataset

        return forecast_dataset(self.model, start, steps, **options)

    def forecast_array(
        self,
        start_BCHW: NDArray[Any],
        steps: int,
        scalars: Sequence[float] = (),
        dataset: str = "",
        **options: Any,
    ) -> NDArray[np.float32]:
        """(B, K, C', H, W) forecasts of the model's outputs from (B, C, H, W) its inputs, in physical units.

        Args:
            start_BCHW: fields on the grid of the training, channels in the order of the domain's inputs.
            steps: how many.
            scalars: the parameters of all samples, in the order of the domain's scalars.
            dataset: the name by which the model knows the data; needed where it knows several datasets.
            options: as for `forecast`.

        Raises:
            DataError: shapes or parameters are not the model's, or a forcing is not known for all steps.
        """
        name = self._dataset(dataset)
        domain = self.model.domain(name)
        start = as_dataset(np.asarray(start_BCHW), domain, scalars)
        made = self.forecast(start, steps, dataset=name, **options)
        fields = [made[key].isel(start=0).values for key in keys(domain.outputs)]
        return np.stack(fields, axis=2).astype(np.float32, copy=False)

    def _dataset(self, name: str) -> str:
        if not name and len(self.datasets) != 1:
            known = ", ".join(self.datasets) or "(none)"
            raise DataError(f"{self.reference} knows the datasets {known}: say which one, dataset=NAME")
        return name or self.datasets[0]


def as_dataset(start_BCHW: NDArray[Any], domain: Domain, scalars: Sequence[float] = ()) -> xr.Dataset:
    """(B, C, H, W) physical inputs of a model as fields by name, on the grid that it was trained on.

    Raises:
        DataError: shapes or parameters are not the model's, or it records no grid.
    """
    if domain.grid is None:
        raise DataError("the model records no grid, so arrays cannot be placed: give an xr.Dataset")
    axes = {"y": domain.grid.y, "x": domain.grid.x}
    expected = (len(domain.inputs), axes["y"].points, axes["x"].points)
    if start_BCHW.shape[1:] != expected or start_BCHW.ndim != 4:
        raise DataError(
            f"an array of shape {start_BCHW.shape}; the model takes (samples, {', '.join(map(str, expected))}):"
            f" {', '.join(keys(domain.inputs))} on the grid of its training. Give an xr.Dataset for another grid"
        )
    if len(scalars) != len(domain.scalars):
        raise DataError(
            f"{len(scalars)} parameter(s) given; the model needs {len(domain.scalars)}:"
            f" {', '.join(domain.scalars) or 'none'}"
        )
    latlon = domain.grid.kind == "latlon"
    units = {"y": "degrees_north", "x": "degrees_east"} if latlon else dict.fromkeys("yx", domain.grid.units)
    coordinates = {name: (name, _positions(axis), {"units": units[name]}) for name, axis in axes.items()}
    fields = _fields(np.asarray(start_BCHW, np.float32), domain.inputs)
    values = {
        name: ("trajectory", np.full(len(start_BCHW), value))
        for name, value in zip(domain.scalars, scalars, strict=True)
    }
    return xr.merge([*fields, xr.Dataset(values)], join="outer").assign_coords(coordinates)


def _fields(start_BCHW: NDArray[np.float32], variables: Sequence[Variable]) -> Iterator[xr.Dataset]:
    """The channels of each name, those at levels along a dimension of their own."""
    for name in dict.fromkeys(variable.name for variable in variables):
        places = [number for number, variable in enumerate(variables) if variable.name == name]
        attributes = {"units": variables[places[0]].units}
        levels = [variables[place].level for place in places]
        if levels == [None]:
            yield xr.Dataset({name: (("trajectory", "y", "x"), start_BCHW[:, places[0]], attributes)})
        else:
            dims = ("trajectory", "level", "y", "x")
            yield xr.Dataset({name: (dims, start_BCHW[:, places], attributes)}, {"level": levels})


def _positions(axis: TrainedAxis) -> NDArray[np.float64]:
    # Rows of a Gaussian grid are not quite evenly apart, but networks see the mean spacing alone.
    return np.linspace(axis.first, axis.last, axis.points)


def load(reference: str | Path, tracking: "TrackingConfig | str | None" = None) -> LoadedModel:
    """A model for programs.

    Args:
        reference: `models:/NAME@ALIAS` or `models:/NAME/VERSION` of the registry; the folder of a model; or a published
            folder, as `pelagos models export` writes it and Hugging Face holds it.
        tracking: where the registry is; the database `runs/mlflow.db` by default.

    Raises:
        MissingFileError: there is no such model.
        DamagedFileError: a file of it is not as it was written.
        UntrustedCodeError: its network is a class that the user has not named.
    """
    with _folder(str(reference), tracking) as folder:
        return LoadedModel(model_folder.load(folder), str(reference))


@contextmanager
def _folder(reference: str, tracking: "TrackingConfig | str | None") -> Iterator[Path]:
    """The folder of a model, in the layout of Pelagos."""
    if reference.startswith("models:/"):
        # MLflow is loaded for the registry alone.
        from pelagos.pipeline.tracking import model_registry
        from pelagos.pipeline.tracking.tracker import TrackingConfig

        config = TrackingConfig(uri=tracking) if isinstance(tracking, str) else tracking or TrackingConfig()
        yield model_registry.resolve(reference, config)
    elif published_folder.is_published(Path(reference)):
        with tempfile.TemporaryDirectory(prefix="pelagos-") as scratch:
            published_folder.restore(Path(reference), Path(scratch), link=True)
            yield Path(scratch)
    elif not Path(reference).is_dir():
        raise MissingFileError(
            f"no model folder {reference}; a registered one has the form models:/NAME@ALIAS"
        )
    else:
        yield Path(reference)
