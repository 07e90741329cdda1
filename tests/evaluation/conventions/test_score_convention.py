"""Each preset against its formula, written down once more from the benchmarks' definitions."""

import json
import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from pelagos.evaluation.conventions.sample_statistics import SampleStatistics
from pelagos.evaluation.conventions.score_convention import CONVENTIONS, ConventionName
from pelagos.evaluation.conventions.score_reduction import Score, compute_score

Array = NDArray[np.float64]
Gather = Callable[..., SampleStatistics]
# As the statistics' own in conftest.
MEAN, STD = np.array([1.0, -2.0, 0.5])[:, None, None], np.array([2.0, 3.0, 0.25])[:, None, None]


def scored(name: ConventionName, statistics: SampleStatistics) -> dict[str, Score]:
    once = np.ones((1, len(statistics.arrays["weight"])))
    return {
        score.name: compute_score(score, statistics, once)
        for score in CONVENTIONS[name].scores
        if statistics.has(score.needs)
    }


def test_poseidon_is_the_mean_over_groups_of_the_median_over_samples(
    gather: Gather, fields: tuple[Array, Array]
) -> None:
    found = scored("poseidon", gather(*fields))
    p, t = ((one[:, -1] - MEAN) / STD for one in fields)
    errors = []
    for group in ([0, 2], [1]):
        above = np.abs(p[:, group] - t[:, group]).sum(axis=(1, 2, 3))
        errors.append(100 * above / np.abs(t[:, group]).sum(axis=(1, 2, 3)))
    median, mean = np.mean([np.median(e) for e in errors]), np.mean([e.mean() for e in errors])
    assert found["mean_over_median_relative_l1"].value[0] == pytest.approx(median, rel=1e-12)
    assert found["mean_over_mean_relative_l1"].value[0] == pytest.approx(mean, rel=1e-12)


def test_pdebench_averages_roots_but_pools_means_and_modes_over_the_batch(
    gather: Gather, fields: tuple[Array, Array]
) -> None:
    found = {name: float(score.value[0]) for name, score in scored("pdebench", gather(*fields)).items()}
    p, t = fields
    e, (h, w) = p - t, p.shape[-2:]
    rmse = np.sqrt((e**2).mean(axis=(-2, -1)))
    edges = (e[..., 0, :] ** 2).sum(-1) + (e[..., -1, :] ** 2).sum(-1)
    edges = edges + (e[..., 0] ** 2).sum(-1) + (e[..., -1] ** 2).sum(-1)
    expected = {
        "rmse": rmse.mean(),
        "nrmse": (rmse / np.sqrt((t**2).mean(axis=(-2, -1)))).mean(),
        "crmse": (np.sqrt((e.sum(axis=(-2, -1)) ** 2).mean(axis=0)) / (h * w)).mean(),
        "max": np.abs(e).max(axis=(0, -2, -1)).mean(),
        "brmse": np.sqrt(edges / (2 * h + 2 * w)).mean(),
    }
    power = np.abs(np.fft.fftn(e, axes=(-2, -1))) ** 2
    shells = np.zeros((*e.shape[:3], 14))
    for i in range(h // 2):
        for j in range(w // 2):
            if (k := math.floor(math.hypot(i, j))) < 14:
                shells[..., k] += power[..., i, j]
    roots = np.sqrt(shells.mean(axis=0)) / (h * w)
    for band, (low, high) in {"low": (0, 4), "mid": (4, 12), "high": (12, None)}.items():
        expected[f"frmse_{band}"] = roots[..., low:high].mean(axis=-1).mean()
    assert found == pytest.approx(expected, rel=1e-12)


def test_pdebench_has_no_high_band_on_small_grids(gather: Gather) -> None:
    rng = np.random.default_rng(0)
    p, t = rng.normal(size=(2, 3, 1, 1, 16, 16))
    found = scored("pdebench", gather(p, t))["frmse_high"]
    assert json.loads(json.dumps(found.to_json(), allow_nan=False))["value"] is None


def test_the_well_divides_by_the_unbiased_variance_of_each_field(gather: Gather) -> None:
    rng = np.random.default_rng(1)
    p, t = rng.normal(5, 2, (2, 3, 20, 2, 6, 8))
    found = {name: float(score.value[0]) for name, score in scored("the_well", gather(p, t)).items()}
    vrmse = np.sqrt(((p - t) ** 2).mean(axis=(-2, -1)) / (t.var(axis=(-2, -1), ddof=1) + 1e-7))
    steps = vrmse.mean(axis=(0, 2))
    assert found["vrmse_one_step"] == pytest.approx(steps[0], rel=1e-12)
    assert found["vrmse_6_12"] == pytest.approx(steps[6:12].mean(), rel=1e-12)
    # Ten of the window's 17 steps are beyond the last of 20.
    assert found["vrmse_13_30"] == pytest.approx(steps[13:].mean(), rel=1e-12)


def test_apebench_adds_channels_and_takes_the_geometric_mean_over_steps(
    gather: Gather, fields: tuple[Array, Array]
) -> None:
    found = scored("apebench", gather(*fields))
    p, t = (one.reshape(*one.shape[:3], -1) for one in fields)
    steps = (np.linalg.norm(p - t, axis=-1) / np.linalg.norm(t, axis=-1)).sum(axis=2).mean(axis=0)
    assert found["gmean_nrmse"].value[0] == pytest.approx(np.exp(np.log(steps).mean()), rel=1e-12)
    cosine = (p * t).sum(-1) / np.linalg.norm(p, axis=-1) / np.linalg.norm(t, axis=-1)
    np.testing.assert_allclose(found["correlation"].curve[0], cosine.mean(axis=(0, 2)), rtol=1e-12)


def test_mpp_averages_over_time_batch_and_channels(gather: Gather, fields: tuple[Array, Array]) -> None:
    p, t = fields
    expected = np.sqrt(((p - t) ** 2).mean(axis=(-2, -1)) / (1e-7 + (t**2).mean(axis=(-2, -1)))).mean()
    assert scored("mpp", gather(p, t))["nrmse"].value[0] == pytest.approx(expected, rel=1e-12)


@pytest.fixture
def weather(gather: Gather, fields: tuple[Array, Array]) -> tuple[SampleStatistics, Array, Array, Array]:
    """Statistics, anomalies of forecast and truth, and weights of the rows."""
    edges = np.linspace(-90, 90, fields[0].shape[-2] + 1)
    rows = np.diff(np.sin(np.deg2rad(edges)))
    weights = np.broadcast_to((rows / rows.mean())[:, None], fields[0].shape[-2:])
    climatology = np.random.default_rng(2).normal(size=fields[0].shape[1:])
    statistics = gather(*fields, climatology, weights)
    return statistics, fields[0] - climatology, fields[1] - climatology, weights


def test_weatherbench_takes_the_root_last_and_weighs_by_area(
    weather: tuple[SampleStatistics, Array, Array, Array], fields: tuple[Array, Array]
) -> None:
    statistics, _, _, weights = weather
    expected = np.sqrt((weights * (fields[0] - fields[1]) ** 2).mean(axis=(0, -2, -1)))
    for name in ("weatherbench2", "weatherbenchX"):
        found = scored(name, statistics)["rmse"]
        np.testing.assert_allclose(found.by_group[0], expected, rtol=1e-12)
        assert np.isnan(found.value).all()  # metres and kelvins have no mean


def test_weatherbench_2_averages_correlations_and_weatherbench_x_their_parts(
    weather: tuple[SampleStatistics, Array, Array, Array],
) -> None:
    statistics, p, t, weights = weather
    fo, ff, oo = ((weights * a * b).mean(axis=(-2, -1)) for a, b in ((p, t), (p, p), (t, t)))
    two, x = (scored(name, statistics)["acc"].by_group[0] for name in ("weatherbench2", "weatherbenchX"))
    np.testing.assert_allclose(two, (fo / np.sqrt(ff * oo)).mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(x, fo.mean(axis=0) / np.sqrt(ff.mean(axis=0) * oo.mean(axis=0)), rtol=1e-12)
    assert not np.allclose(two, x, rtol=1e-6)


@pytest.mark.parametrize("name", CONVENTIONS)
def test_a_preset_says_what_it_computes_and_leads_with_its_own_scores(name: ConventionName) -> None:
    convention = CONVENTIONS[name]
    assert convention.name == name
    assert set(convention.headline) <= {score.name for score in convention.scores}
    for score, line in zip(convention.scores, convention.describe(), strict=True):
        assert line.startswith(score.name)
        assert "lead time" in line
        assert (f", eps {score.eps:g}" in line) == bool(score.eps)


def test_the_wells_metrics_are_the_same_to_six_digits(gather: Gather, fields: tuple[Array, Array]) -> None:
    metrics = pytest.importorskip("the_well.benchmark.metrics")
    torch = pytest.importorskip("torch")
    p, t = (torch.from_numpy(np.moveaxis(one, 2, -1)) for one in fields)
    meta = type("Meta", (), {"n_spatial_dims": 2})
    theirs = metrics.VRMSE.eval(p, t, meta).mean(dim=(0, 2)).numpy()
    found = scored("the_well", gather(*fields))["vrmse_one_step"].value[0]
    assert found == pytest.approx(theirs[0], rel=1e-6)
    nrmse = metrics.NRMSE.eval(p, t, meta).mean().item()
    assert scored("mpp", gather(*fields))["nrmse"].value[0] == pytest.approx(nrmse, rel=1e-6)
