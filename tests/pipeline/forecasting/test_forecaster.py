"""Forecasts are in physical units, whatever form a store keeps its fields in."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from torch import Tensor, nn

from pelagos.evaluation import baselines, scores
from pelagos.evaluation.forecast_plan import StartsConfig
from pelagos.evaluation.truth import read_initial, read_training, read_truth
from pelagos.models.context import Signature
from pelagos.models.networks.unet import UNetConfig
from pelagos.pipeline.forecasting.forecaster import Forecaster
from pelagos.pipeline.runs.model_folder import Domain, Model, VariableScale
from pelagos.preprocessing.build.build_config import BuildConfig
from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.grid import Grid, Sides
from pelagos.preprocessing.samples.normalize import Normalizer
from pelagos.preprocessing.sources import convention
from pelagos.preprocessing.sources.formats import pdebench_writer
from pelagos.preprocessing.store.store import Store, open_store
from pelagos.preprocessing.variables import keys, known_variable

PERIODIC: Sides = ("periodic", "periodic")
STARTS = StartsConfig(split="test", steps=2, every=1)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three trajectories of fields that spread over orders of magnitude."""
    path = tmp_path_factory.mktemp("archive") / "2D_CFD_periodic.hdf5"
    rng, axis = np.random.default_rng(0), np.arange(8) / 8
    names = ("density", "velocity_x", "velocity_y", "pressure")
    fields = {name: np.exp(2 * rng.normal(size=(3, 5, 8, 8))).astype(np.float32) for name in names}
    variables = {
        name: xr.Variable(convention.TIME_DIMS, field, convention.attrs(name, known_variable(name).role))
        for name, field in fields.items()
    }
    ds = convention.assemble(
        variables,
        grid=Grid("cartesian", axis, axis, PERIODIC, PERIODIC),
        time=np.arange(5) * 0.1,
        dataset="flow",
        source_format="test",
        sources=(),
        num_trajectories=3,
    )
    pdebench_writer.write(ds, path)
    return path


def built(archive: Path, version: str, **options: Any) -> Store:
    values = {
        "dataset": "flow",
        "version": version,
        "source": {"kind": "pdebench", "paths": str(archive)},
        "root": str(archive.parent),
        "splits": {"kind": "trajectories", "test": 1},
        **options,
    }
    return open_store(build(BuildConfig.model_validate(values)))


@pytest.fixture(scope="module")
def plain(archive: Path) -> Store:
    return built(archive, "plain", variables=["density", "pressure"])


@pytest.fixture(scope="module")
def logarithmic(archive: Path) -> Store:
    transforms = {"density": {"kind": "log1p", "scale": 0.01}}
    return built(archive, "logarithmic", variables=["density", "pressure"], transforms=transforms)


class Persist(nn.Module):
    """The input as it is."""

    def forward(self, fields: Tensor, lead: Tensor, told: Any) -> Tensor:
        return fields[:, :2]


def persisting(store: Store) -> Model:
    normalizer = Normalizer.of(store)
    scales = zip(normalizer.keys, normalizer.mean.tolist(), normalizer.std.tolist(), strict=True)
    domain = Domain(
        inputs=store.variables,
        outputs=store.variables,
        scales={key: VariableScale(mean=mean, std=std) for key, mean, std in scales},
    )
    names = keys(store.variables)
    return Model(UNetConfig(kind="unet"), Persist(), Signature(names, names), {store.dataset: domain})


def test_forecasts_of_transformed_fields_are_physical(plain: Store, logarithmic: Store) -> None:
    plan = STARTS.plan(plain)
    expected = baselines.persistence(read_initial(plain, plan, plain.variables), [0.1, 0.2])
    for store in (plain, logarithmic):
        made = Forecaster(persisting(store), store).forecast(plan)
        assert made["density"].attrs["units"] == "1"
        for name in ("density", "pressure"):
            given = expected[name].transpose(*made[name].dims).values
            # Scaling adds and takes away means of about 10 in single precision.
            assert made[name].values == pytest.approx(given, rel=1e-5, abs=2e-6)


def test_scores_do_not_depend_on_the_form_in_which_fields_are_kept(plain: Store, logarithmic: Store) -> None:
    found = []
    for store in (plain, logarithmic):
        plan = STARTS.plan(store)
        truth = read_truth(store, plan, store.variables)
        sums = scores.accumulate(Forecaster(persisting(store), store).forecast(plan), truth)
        found.append(scores.rmse(sums).values)
    assert found[1] == pytest.approx(found[0], rel=1e-5)
    assert found[0].min() > 0.1


def test_baselines_are_fitted_to_physical_values(plain: Store, logarithmic: Store) -> None:
    one, two = (read_training(store, "train", 1) for store in (plain, logarithmic))
    assert two["density"].values == pytest.approx(one["density"].values, rel=1e-5)
    assert two["pressure"].equals(one["pressure"])


def test_an_overflowing_forecast_is_infinitely_wrong(logarithmic: Store) -> None:
    class Exploding(nn.Module):
        def forward(self, fields: Tensor, lead: Tensor, told: Any) -> Tensor:
            return torch.full_like(fields[:, :2], 1e30)

    model, plan = persisting(logarithmic), STARTS.plan(logarithmic)
    made = Forecaster(Model(model.config, Exploding(), model.signature, model.domains), logarithmic)
    sums = scores.accumulate(made.forecast(plan), read_truth(logarithmic, plan, logarithmic.variables))
    assert np.isinf(scores.mae(sums).sel(group="density").values).all()


def test_a_model_of_fields_in_another_form_is_refused(plain: Store, logarithmic: Store) -> None:
    message = r"flow-logarithmic.zarr has density in ln\(1 \+ density / 0.01\); the model knows it in 1"
    with pytest.raises(DataError, match=message):
        Forecaster(persisting(plain), logarithmic)


def test_regridded_fields_are_scored_on_their_own_grid(archive: Path, plain: Store) -> None:
    coarse = built(archive, "coarse", variables=["density", "pressure"], regrid={"shape": [3, 4]})
    plan = STARTS.plan(coarse)
    made = Forecaster(persisting(coarse), coarse).forecast(plan)
    assert made["density"].shape[-2:] == (3, 4)
    fine = read_initial(plain, plan, plain.variables)["density"].mean(["y", "x"])
    assert made["density"].isel(lead_time=0).mean(["y", "x"]).values == pytest.approx(fine.values, rel=1e-6)
