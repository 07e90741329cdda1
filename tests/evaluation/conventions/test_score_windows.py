"""A score of which a few lead times are in memory at a time is that of all of them at once."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pelagos.evaluation.conventions import score_windows
from pelagos.evaluation.conventions.sample_statistics import SampleStatistics
from pelagos.evaluation.conventions.score_definition import ScoreDefinition
from pelagos.evaluation.conventions.score_reduction import compute_score
from pelagos.evaluation.conventions.score_windows import score_as_json
from pelagos.evaluation.inference.resampling import blocks_of, draw_counts

Array = NDArray[np.float64]


def flat(values: Any, name: str = "") -> dict[str, Any]:
    if isinstance(values, dict):
        return {key: one for part in values for key, one in flat(values[part], f"{name}/{part}").items()}
    return {name: values}


@pytest.mark.parametrize(
    "options",
    [
        {"formula": "rmse", "pool_samples": True, "variables": "each"},
        {"formula": "relative_l1", "pool_variables": True, "samples": "median"},
        {"formula": "nrmse", "lead_times": "geometric_mean", "variables": "sum"},
        {"formula": "vrmse", "window": (1, None)},
        {"formula": "rmse", "lead_times": "last"},
        {"formula": "max_error", "samples": "max", "lead_times": "each"},
        {"formula": "fourier_rmse", "entries": (1, 3), "percent": True},
    ],
)
@pytest.mark.parametrize("held", [0, 6 * 101, 12 * 101 + 5])
def test_numbers_and_curves_are_those_of_one_window(
    gather: Callable[..., SampleStatistics], fields: tuple[Array, Array], options: dict[str, Any], held: int
) -> None:
    p = fields[0].copy()
    p[4, 2, 1, 0, 3] = np.nan  # a failed forecast
    statistics = gather(p, fields[1])
    definition = ScoreDefinition(name="x", **options)
    counts = draw_counts(blocks_of(np.arange(7), np.zeros(7, np.int64), 4), 100)
    wanted = flat(compute_score(definition, statistics, counts).to_json())
    found = flat(score_as_json(definition, statistics, counts, held))
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        if isinstance(value, str) or value is None:
            assert found[name] == value
        elif isinstance(value, list) and None in value:
            assert [one is None for one in found[name]] == [one is None for one in value]
        else:
            np.testing.assert_allclose(found[name], value, rtol=1e-12, err_msg=name)


def test_no_window_holds_more_values_than_it_may(
    gather: Callable[..., SampleStatistics], fields: tuple[Array, Array], monkeypatch: pytest.MonkeyPatch
) -> None:
    statistics = gather(*fields)
    lengths = list[int]()

    def computed(definition: ScoreDefinition, part: SampleStatistics, counts: Array) -> Any:
        lengths.append(len(part.lead_times))
        return compute_score(definition, part, counts)

    monkeypatch.setattr(score_windows, "compute_score", computed)
    definition = ScoreDefinition(name="x", formula="rmse", variables="each")
    counts = draw_counts(blocks_of(np.arange(7), np.zeros(7, np.int64), 4), 100)
    score_as_json(definition, statistics, counts, held=2 * 3 * 101)  # two lead times of three variables
    assert lengths == [2, 2]
