from typing import Any

import cftime
import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from pydantic import TypeAdapter

from pelagos.preprocessing.assumptions import Assumption, collect
from pelagos.preprocessing.errors import ConfigError
from pelagos.preprocessing.store.split import Split, TimeSplit, TrajectorySplit

TIMES = np.arange(4.0)
DAYS = np.datetime64("2000-12-30", "s") + np.arange(6) * np.timedelta64(1, "D")
NAMES = ["train", "valid", "test", "-"]


def rows(split: Split, num: int, **scalars: np.ndarray) -> list[str]:
    codes = split.codes(TIMES, num, scalars)
    assert (codes == codes[:, :1]).all()
    return [NAMES[code] for code in codes[:, 0]]


def test_train_comes_from_the_front_and_test_last() -> None:
    split = TrajectorySplit(train=3, valid=2, test=1)
    assert rows(split, 8) == ["train"] * 3 + ["-"] * 2 + ["valid"] * 2 + ["test"]


def test_train_takes_all_that_remain_by_default() -> None:
    assert rows(TrajectorySplit(valid=1, test=2), 6) == ["train"] * 3 + ["valid"] + ["test"] * 2
    assert rows(TrajectorySplit(), 3) == ["train"] * 3
    assert rows(TrajectorySplit(valid=(0, 2)), 4) == ["valid"] * 2 + ["train"] * 2


def test_ranges_may_stand_anywhere() -> None:
    split = TrajectorySplit(train=(2, 4), valid=(0, 1), test=(-1, None))
    assert rows(split, 6) == ["valid", "-", "train", "train", "-", "test"]


def test_groups_stay_together_and_counts_are_not_exceeded() -> None:
    viscosity = np.array([1, 1, 2, 2, 3, 3, 4, 4])
    found = rows(TrajectorySplit(train=3, valid=3, test=2, group_by=("viscosity",)), 8, viscosity=viscosity)
    assert found == ["train", "train", "-", "-", "valid", "valid", "test", "test"]


def test_groups_need_not_lie_side_by_side() -> None:
    viscosity = np.array([1, 2, 1, 2, 1, 2])
    found = rows(TrajectorySplit(test=3, group_by=("viscosity",)), 6, viscosity=viscosity)
    assert found == ["train", "test"] * 3


def test_ranges_that_tear_a_group_are_refused() -> None:
    split = TrajectorySplit(train=(0, 3), test=(3, 6), group_by=("viscosity",))
    with pytest.raises(ConfigError, match=r"trajectories \[2, 3\] agree in viscosity but are in different"):
        split.codes(TIMES, 6, {"viscosity": np.array([1, 1, 2, 2, 3, 3])})


def test_groups_of_which_none_is_small_enough_are_refused() -> None:
    viscosity = np.array([1, 1, 1, 2, 2, 2])
    for options, name in (({"test": 2}, "test"), ({"test": 3, "valid": 1}, "valid"), ({"train": 2}, "train")):
        split = TrajectorySplit.model_validate(options | {"group_by": ["viscosity"]})
        with pytest.raises(
            ConfigError, match=rf"{name} asks for . trajectories and gets none: 3, trajectory \d "
        ):
            split.codes(TIMES, 6, {"viscosity": viscosity})


@pytest.mark.parametrize(
    ("split", "message"),
    [
        (TrajectorySplit(train=(0, 4), test=(3, 5)), "trajectory 3 is in train and in test"),
        (TrajectorySplit(train=5, valid=1), "train asks for 5 of 5 trajectories; valid and test leave 4"),
        (TrajectorySplit(test=6), "test asks for 1 more trajectories than there are"),
        (TrajectorySplit(test=(3, 9)), r"splits.test: \[3, 9\] is empty or reaches beyond the 5 entries"),
        (TrajectorySplit(group_by=("mass",)), "no scalar 'mass'"),
        (
            TrajectorySplit(train=("2000-01-01", None)),
            "'2000-01-01' is a date, but the data have no dates; give positions from 0 to 4",
        ),
    ],
)
def test_impossible_splits_are_explained(split: TrajectorySplit, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        split.codes(TIMES, 5, {})


def test_dates_bound_half_open_ranges() -> None:
    split = TimeSplit(
        train=(None, "2001-01-01"), valid=("2001-01-01", "2001-01-02T12"), test=("2001-01-03", None)
    )
    codes = split.codes(DAYS, 2, {})
    assert [NAMES[code] for code in codes[0]] == ["train", "train", "valid", "valid", "test", "test"]
    assert np.array_equal(codes[0], codes[1])


def test_dates_of_yaml_need_no_quotes() -> None:
    values = yaml.safe_load("{kind: time, train: [null, 2001-01-01], valid: [2001-01-01T00:00:00Z, null]}")
    split = TypeAdapter[Split](Split).validate_python(values)
    assert [NAMES[code] for code in split.codes(DAYS, 1, {})[0]] == ["train"] * 2 + ["valid"] * 4
    assert TypeAdapter[Split](Split).validate_json(split.model_dump_json()) == split


def test_ranges_of_time_that_overlap_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"frame 2 \(2001-01-01T00:00:00\) is in train and in test"):
        TimeSplit(train=(0, 4), test=("2001-01-01", None)).codes(DAYS, 1, {})


def test_what_is_no_date_is_refused() -> None:
    with pytest.raises(ConfigError, match="'yesterday' is not an ISO date"):
        TimeSplit(train=("yesterday", None)).codes(DAYS, 1, {})


DAILY = np.arange("1979-01-01", "1985-01-01", dtype="datetime64[D]").astype("datetime64[s]")


def years(axis: NDArray[Any], **splits: Any) -> tuple[Any, list[Assumption]]:
    with collect() as found:
        codes = TimeSplit.model_validate(splits).codes(axis, 1, {})
    return codes[0], list(found.all)


def test_numbers_that_can_only_be_years_are_years_and_that_is_said() -> None:
    axis = DAILY[::7]  # 314 frames: none of them is number 1979
    codes, (one,) = years(axis, train=[1979, 1983], test=[1983, None])
    np.testing.assert_array_equal(axis[codes == 0], axis[axis < np.datetime64("1983")])
    np.testing.assert_array_equal(axis[codes == 2], axis[axis >= np.datetime64("1983")])
    assert (one.code, one.question) == ("positions", False)
    assert "splits.train: [1979, 1983] of data from 1979 to 1984 are taken as years" in one.text


def test_numbers_that_may_be_years_or_positions_are_asked_about() -> None:
    codes, (one,) = years(DAILY, train=[1979, 1983])
    assert (codes == 0).sum() == 4  # as positions, if that is accepted
    assert one.question
    assert "['1979', '1984']" in one.answer


@pytest.mark.parametrize(
    "bounds", [[0, 16], [None, -10], [0, 1983], ["1979", "1983"], [None, "1983-01-01"], [1000, 2000]]
)
def test_plain_positions_and_dates_are_asked_nothing(bounds: Any) -> None:
    assert not years(DAILY, train=bounds)[1]


def test_positions_without_dates_and_in_the_years_of_models_are_positions() -> None:
    assert not years(np.arange(2000.0), train=[1979, 1983])[1]
    first = np.array(cftime.num2date(np.arange(900), "days since 0001-01-01", "noleap"), object)
    assert not years(first, train=[1, 3])[1]
