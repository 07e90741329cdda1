"""Forecasts are in physical units, whatever form a store keeps its fields in."""

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
import xarray as xr
from torch import Tensor, nn

from pelagos.evaluation import baselines, scores
from pelagos.evaluation.forecast_plan import StartsConfig
from pelagos.evaluation.truth import read_initial, read_training, read_truth
from pelagos.models.constraints.conserved_mean import ConservedMean
from pelagos.models.constraints.driven_sides import DrivenSides
from pelagos.models.context import Signature
from pelagos.models.networks.unet import UNetConfig
from pelagos.pipeline.forecasting.forcing_supply import ForcingSupply
from pelagos.pipeline.forecasting.forecaster import Forecaster
from pelagos.pipeline.forecasting.strategy import Composite
from pelagos.pipeline.runs.model_folder import Domain, Model, VariableScale
from pelagos.pipeline.runs.trained_grid import TrainedGrid
from pelagos.preprocessing.build.build_config import BuildConfig
from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.grid import Grid, Sides
from pelagos.preprocessing.samples.normalize import Normalizer
from pelagos.preprocessing.sources import convention
from pelagos.preprocessing.sources.formats import pdebench_writer
from pelagos.preprocessing.store.frame_reader import MemoryReader
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


class Advect(nn.Module):
    """Moves everything up by a row, and adds the lead time: direction and duration matter."""

    def forward(self, fields: Tensor, lead: Tensor, told: Any) -> Tensor:
        return fields[:, :2].roll(1, dims=-2) + lead[:, None, None, None]


def knowing(store: Store) -> Model:
    """A model that was trained on a store, on pairs one and two frames apart."""
    model = persisting(store)
    facts = {
        "grid": TrainedGrid.of(store.grid),
        "time_units": store.time_units,
        "time_scale": store.dt,
        "min_lead": store.dt,
        "max_lead": 2 * store.dt,
        "horizon": 2 * store.dt,
    }
    domains = {name: domain.model_copy(update=facts) for name, domain in model.domains.items()}
    return replace(model, network=Advect(), domains=domains)


def test_rows_the_other_way_round_give_the_same_forecast(
    plain: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    plan, model = STARTS.plan(plain), knowing(plain)
    expected = Forecaster(model, plain).forecast(plan)
    assert capsys.readouterr().err == ""
    state = np.stack([plain.read(n, 0, plain.num_times) for n in range(plain.num_trajectories)])
    grid = replace(plain.grid, y=plain.grid.y[::-1])
    turned = replace(plain, grid=grid, frames=MemoryReader(state[..., ::-1, :].copy()))
    made = Forecaster(model, turned).forecast(plan)
    xr.testing.assert_identical(made.isel(y=slice(None, None, -1)), expected)
    assert capsys.readouterr().err.count("note: the model: the rows of") == 1


def test_other_units_of_time_give_the_same_forecast(plain: Store) -> None:
    seconds = replace(plain, time_units="s")
    milliseconds = replace(plain, times=plain.times * 1000, time_units="ms")
    plan, model = STARTS.plan(plain), knowing(seconds)
    expected = Forecaster(model, seconds).forecast(plan)
    made = Forecaster(model, milliseconds).forecast(plan)
    assert made["lead_time"].values == pytest.approx(1000 * expected["lead_time"].values)
    for name in expected.data_vars:
        np.testing.assert_allclose(made[name].values, expected[name].values, rtol=1e-6)


def test_leads_beyond_those_trained_are_said_once(plain: Store, capsys: pytest.CaptureFixture[str]) -> None:
    three = StartsConfig(split="test", steps=3, every=1).plan(plain)
    for mode, times in (("rollout", 0), ("direct", 1)):
        forecaster = Forecaster(knowing(plain), plain, mode, label="model net")  # type: ignore[arg-type]
        for _ in range(2):
            forecaster.forecast(three)
        said = capsys.readouterr().err
        assert said.count("WARNING: model net: asked for a lead time of 0.3") == times
        assert said.count("note: model net: forecasts reach a lead time of 0.3") == 1 - times


@pytest.mark.parametrize("mode", ["rollout", "direct"])
def test_what_the_model_was_never_taught_is_held_and_said_where_it_moves(
    plain: Store, mode: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    class Wrong(Persist):
        def forward(self, fields: Tensor, lead: Tensor, told: Any) -> Tensor:
            return super().forward(fields, lead, told) + 5

    model, plan = persisting(plain), STARTS.plan(plain)
    domain = model.domains["flow"].model_copy(update={"held": ("density",)})
    made = Forecaster(Model(model.config, Wrong(), model.signature, {"flow": domain}), plain, mode).forecast(
        plan
    )
    assert made["density"].values == pytest.approx(domain.scales["density"].mean, rel=1e-6)
    assert np.ptp(made["pressure"].values) > 0
    assert "WARNING: the model: density was constant in its training" in capsys.readouterr().err


@pytest.mark.parametrize("mode", ["rollout", "direct", Composite(lengths=(2, 1))])
def test_a_models_constraints_hold_at_every_lead_time(plain: Store, mode: Any) -> None:
    class Growing(nn.Module):
        def forward(self, fields: Tensor, lead: Tensor, told: Any) -> Tensor:
            return fields[:, :2] * (1 + 0.1 * lead[:, None, None, None]) + 0.05

    model = persisting(plain)
    obeying = replace(model, network=Growing(), constraints=(ConservedMean(variables=("density",)),))
    plan = STARTS.plan(plain)
    made = Forecaster(obeying, plain, mode).forecast(plan).transpose("lead_time", ...)
    start = read_initial(plain, plan, plain.variables).mean(("y", "x"))
    # Cells are of one size.
    means = made.astype(np.float64).mean(("y", "x"))
    for step in range(made.sizes["lead_time"]):
        assert means["density"][step].values == pytest.approx(start["density"].values, rel=1e-6)
        assert (abs(means["pressure"][step].values - start["pressure"].values) > 1e-3).all()


def test_the_sides_of_a_region_come_from_a_wider_model_or_from_the_store(
    plain: Store, logarithmic: Store
) -> None:
    open_grid = replace(plain.grid, boundary_y=("open", "open"), boundary_x=("open", "open"))
    region = replace(plain, grid=open_grid)
    model = replace(persisting(region), constraints=(DrivenSides(width=1),))
    plan = STARTS.plan(region)
    made = Forecaster(model, region).forecast(plan)
    truth = read_truth(region, plan, region.variables)
    for name in ("density", "pressure"):
        found, wanted = (one[name].transpose("lead_time", ..., "y", "x").values for one in (made, truth))
        # Scaling adds and takes away means of about 10 in single precision.
        assert found[..., 0, :] == pytest.approx(wanted[..., 0, :], rel=1e-5, abs=2e-6)
        assert found[..., :, -1] == pytest.approx(wanted[..., :, -1], rel=1e-5, abs=2e-6)
        assert found[0, ..., 1:-1, 1:-1] == pytest.approx(found[1, ..., 1:-1, 1:-1])  # it persists

    class Wider:
        """What a wider model says: the store's fields plus one."""

        def __getattr__(self, name: str) -> Any:
            return getattr(region, name)

        def read(self, *place: int) -> Any:
            return region.read(*place) + 1

    wider = Forecaster(model, region, supply=ForcingSupply(region, cast(Store, Wider()))).forecast(plan)
    assert wider["density"].values[..., 0, :] == pytest.approx(
        made["density"].values[..., 0, :] + 1, rel=1e-4
    )
    late = replace(plan, starts=(region.num_times - 1,))
    with pytest.raises(DataError, match=r"sides are driven from outside, and .* holds nothing for frame"):
        Forecaster(model, region).forecast(late)
