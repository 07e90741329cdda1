from typing import get_args

import pytest

from pelagos.evaluation.conventions.formulas import FORMULAS
from pelagos.evaluation.conventions.score_catalogue import HorizonName, ScoreName, definitions

NAMES = [name for group in get_args(ScoreName) for name in (get_args(group) or (group,))]
NO_FORMULA = {*get_args(HorizonName), "drift", "rank_histogram"}


@pytest.mark.parametrize("name", NAMES)
def test_every_name_stands_for_known_formulas_with_names_of_their_own(name: ScoreName) -> None:
    found = definitions(name, members=4, rain=(1.0,))
    assert bool(found) == (name not in NO_FORMULA)
    assert all(one.formula in FORMULAS for one in found)
    assert len({one.name for one in found}) == len(found)
    assert all(one.name.startswith(name) for one in found)


def test_scores_with_units_keep_variables_apart() -> None:
    for name in ("rmse", "mae", "bias", "max_error", "crps", "spread"):
        assert definitions(name)[0].variables == "each"


def test_bands_and_thresholds_are_counted_one_by_one() -> None:
    assert [one.name for one in definitions("band_rmse")] == [
        "band_rmse_0_3",
        "band_rmse_4_11",
        "band_rmse_12_on",
    ]
    assert [one.entries for one in definitions("critical_success")] == [(0, 1), (1, 2), (2, 3)]
