import numpy as np
import pytest
import xarray as xr

from pelagos.evaluation.frame_sums.ensemble_sums import ensemble_sums

ONE = np.ones((1, 1))


def point(members: list[float], truth: float) -> dict[str, float]:
    found = ensemble_sums(np.reshape(members, (1, -1, 1, 1)), np.full((1, 1, 1), truth), ONE)
    return {name: float(value[0]) for name, value in found.items() if name != "ranks"}


def test_sums_equal_loops_over_members_and_pairs() -> None:
    rng = np.random.default_rng(0)
    x, y, w = rng.normal(size=(2, 5, 3, 4)), rng.normal(size=(2, 3, 4)), rng.uniform(1, 2, (3, 4))
    found = ensemble_sums(x, y, w)
    pairs = [(i, j) for i in range(5) for j in range(5) if i != j]
    apart = sum(np.abs(x[:, i] - x[:, j]) for i, j in pairs) / len(pairs)
    np.testing.assert_allclose(found["ensemble_pairs"], (w * apart).sum((1, 2)), rtol=1e-12)
    error = np.abs(x - y[:, None]).mean(1)
    np.testing.assert_allclose(found["ensemble_absolute_error"], (w * error).sum((1, 2)), rtol=1e-12)
    norms = [np.sqrt((w * (x[:, i] - x[:, j]) ** 2).sum((1, 2)) / w.sum()) for i, j in pairs]
    np.testing.assert_allclose(found["energy_pairs"], np.mean(norms, axis=0), rtol=1e-12)
    np.testing.assert_allclose(found["ensemble_variance"], (w * x.var(1, ddof=1)).sum((1, 2)), rtol=1e-12)
    np.testing.assert_allclose(found["ranks"].sum(1), w.sum(), rtol=1e-12)


def test_a_single_member_has_an_error_and_no_spread() -> None:
    found = point([3.0], 1.0)
    assert (found["ensemble_absolute_error"], found["energy_error"]) == (2, 2)
    assert found["ensemble_pairs"] == found["ensemble_variance"] == found["energy_pairs"] == 0


@pytest.mark.parametrize(
    ("truth", "expected"),
    [(0.5, [1, 0, 0, 0]), (1.5, [0, 1, 0, 0]), (9.0, [0, 0, 0, 1]), (2.0, [0, 0.5, 0.5, 0])],
)
def test_the_rank_is_the_number_of_members_below_and_ties_are_shared(
    truth: float, expected: list[float]
) -> None:
    found = ensemble_sums(np.reshape([3.0, 1.0, 2.0], (1, 3, 1, 1)), np.full((1, 1, 1), truth), ONE)
    np.testing.assert_array_equal(found["ranks"], [expected])


def test_a_truth_drawn_like_the_members_has_a_flat_rank_histogram() -> None:
    rng = np.random.default_rng(1)
    field = rng.normal(size=(1, 5, 200, 200))
    ranks = ensemble_sums(field[:, 1:], field[:, 0], np.ones((200, 200)))["ranks"][0] / 40000
    # Five standard deviations of a share of 0.2 among 40 000 points.
    np.testing.assert_allclose(ranks, 0.2, atol=0.01)


def test_points_without_truth_do_not_count() -> None:
    truth = np.array([[[1.0, np.nan]]])
    members = np.array([[[[2.0, np.nan]], [[4.0, 7.0]]]])
    found = ensemble_sums(members, truth, np.array([[1.0, 5.0]]))
    assert (found["ensemble_weight"][0], found["ensemble_absolute_error"][0], found["ranks"].sum()) == (
        1,
        2,
        1,
    )


def test_a_member_that_failed_makes_the_frame_fail() -> None:
    found = ensemble_sums(np.array([[[[2.0]], [[np.nan]]]]), np.ones((1, 1, 1)), ONE)
    assert found["ensemble_absolute_error"][0] == found["mean_squared_error"][0] == np.inf
    assert found["ensemble_weight"][0] == 1


@pytest.mark.parametrize("method", ["ecdf", "fair"])
def test_the_crps_is_that_of_the_package_scores(method: str) -> None:
    probability = pytest.importorskip("scores.probability")
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(3, 6, 4, 5)), rng.normal(size=(3, 4, 5))
    theirs = probability.crps_for_ensemble(
        xr.DataArray(x, dims=("n", "member", "y", "x")),
        xr.DataArray(y, dims=("n", "y", "x")),
        "member",
        method=method,
        preserve_dims="n",
    )
    found = ensemble_sums(x, y, np.ones((4, 5)))
    share = 1.0 if method == "fair" else 5 / 6
    ours = found["ensemble_absolute_error"] - share / 2 * found["ensemble_pairs"]
    np.testing.assert_allclose(ours / 20, theirs.values, rtol=1e-12)
