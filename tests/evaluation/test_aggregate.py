from collections.abc import Callable

import numpy as np
import pytest
import xarray as xr

from pelagos.evaluation.aggregate import Sums
from pelagos.evaluation.scores import accumulate
from pelagos.preprocessing.errors import DataError

Make = Callable[..., xr.Dataset]


@pytest.fixture
def sums(make: Make, rng: np.random.Generator) -> Sums:
    truth = make(
        {"u": rng.normal(size=(4, 2, 3, 5)), "v": rng.normal(size=(4, 2, 3, 5))}, group={"u": "w", "v": "w"}
    )
    return accumulate(truth + 0.5, truth)


def test_nothing_is_neutral_on_both_sides(sums: Sums) -> None:
    for total in (Sums.zero() + sums, sums + Sums.zero()):
        xr.testing.assert_identical(total.sums, sums.sums)
    assert Sums.total([]).group == {}


def test_doubling_every_chunk_changes_no_mean(sums: Sums) -> None:
    doubled = sums + sums
    np.testing.assert_allclose(doubled.mean("squared_error"), sums.mean("squared_error"))
    np.testing.assert_allclose(doubled.sum("squared_error"), 2 * sums.sum("squared_error"))
    np.testing.assert_array_equal(doubled.largest("max_absolute_error"), sums.largest("max_absolute_error"))


def test_pooling_sums_over_samples_and_keeps_the_largest(sums: Sums) -> None:
    pooled = sums.pooled("trajectory")
    assert pooled.sum("error").dims == ("lead_time", "group")
    np.testing.assert_allclose(pooled.mean("error"), 0.5)
    np.testing.assert_allclose(pooled.largest("max_absolute_error"), 0.5)


def test_grouping_adds_the_variables_of_a_group(sums: Sums) -> None:
    single = sums.ungrouped().sum("absolute_truth")
    np.testing.assert_allclose(sums.sum("absolute_truth").sel(group="w"), single.sum("group"))


def test_a_statistic_that_was_not_accumulated_is_named(sums: Sums) -> None:
    with pytest.raises(KeyError, match="'cubed_error' was not accumulated"):
        sums.mean("cubed_error")


def test_chunks_of_different_statistics_cannot_be_added(make: Make, sums: Sums) -> None:
    ones = make({"u": np.ones((1, 2, 3, 5))})
    other = accumulate(ones, ones, statistics={"cubed_error": lambda p, t: abs(p - t) ** 3})
    with pytest.raises(DataError, match="different statistics"):
        sums + other
