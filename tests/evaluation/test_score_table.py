from typing import Any

from pelagos.evaluation.score_table import chosen_lines, convention_lines, horizon_lines, interval_lines

NUMBER = {"value": 0.5, "low": 0.4, "high": 0.625, "n": 20, "failed": 0}
INTERVALS = {"one_step": NUMBER, "rollout": NUMBER, "pooled_relative_l2": NUMBER}
RESAMPLING = {
    "level": 0.95, "replicates": 1000, "seed": 0, "blocks": 20, "block": "trajectory", "few_blocks": False
}  # fmt: skip
CURVE = {"value": [0.1, None], "low": [0.05, None], "high": [0.2, None], "n": [20, 20], "failed": [0, 3]}


def scores(**more: Any) -> dict[str, Any]:
    methods = {"unet": {"intervals": INTERVALS}}
    about = {"units": {}, "time_units": "s", "models": {"unet": {}}}
    return {**about, "resampling": RESAMPLING, "methods": methods, **more}


def test_each_number_is_printed_with_its_interval_and_how_it_was_made() -> None:
    first, second = interval_lines(scores())
    assert first == "95 % intervals over 20 blocks of forecasts (by trajectory)"
    assert (
        second
        == "  unet  one step 0.5 [0.4, 0.625], rollout 0.5 [0.4, 0.625], pooled relative L2 0.5 [0.4, 0.625]"
    )


def test_few_blocks_and_no_intervals_are_said() -> None:
    few = RESAMPLING | {"blocks": 3, "few_blocks": True}
    assert "3 blocks of forecasts (by trajectory), too few" in interval_lines(scores(resampling=few))[0]
    none = RESAMPLING | {"replicates": 0, "blocks": 1}
    assert interval_lines(scores(resampling=none)) == [
        "no intervals: all forecasts depend on each other, so that none can be drawn without the others"
    ]


def test_a_convention_prints_its_headline_its_meaning_its_failures_and_its_tests() -> None:
    found = {"meaning": "√⟨e²⟩", **NUMBER, "groups": {"u": {"by_lead_time": CURVE}}}
    test = {
        "score": "nrmse", "first": "unet", "second": "fno", "difference": NUMBER, "wilcoxon_p": 0.01, "sign_p": None
    }  # fmt: skip
    convention = {
        "name": "mpp",
        "fields": "physical",
        "points": "equal",
        "headline": ["nrmse"],
        "methods": {"unet": {"scores": {"nrmse": found}}},
        "comparisons": [test, test | {"first": "persistence", "second": "stencil"}],
    }
    assert convention_lines(scores(convention=convention)) == [
        "convention mpp: physical fields, equal weights",
        "  nrmse: √⟨e²⟩",
        "  unet  0.5 [0.4, 0.625]  3 failed",
        "  unet less fno in nrmse: 0.5 [0.4, 0.625] (p by Wilcoxon 0.01, by signs -)",
    ]


def test_variables_that_are_kept_apart_are_printed_apart() -> None:
    found = {"meaning": "m", "groups": {"t2m": {"by_lead_time": CURVE}}}
    convention = {
        "name": "weatherbench2",
        "fields": "physical",
        "points": "cell areas",
        "headline": ["rmse", "acc"],
        "methods": {"unet": {"scores": {"rmse": found}}},
        "comparisons": [],
    }
    lines = convention_lines(scores(convention=convention))
    assert lines[2] == "  unet  first to last lead time: t2m 0.1 [0.05, 0.2] to -  3 failed"
    assert lines[3] == "  acc: not to be had of these forecasts"


def test_nothing_is_printed_of_a_convention_that_was_not_chosen() -> None:
    assert convention_lines(scores()) == []


def test_a_horizon_beyond_the_last_lead_time_is_said() -> None:
    one = {"median": {**NUMBER, "value": None, "low": 3.0, "high": None}, "share": NUMBER}
    methods = {"unet": {"horizons": {"valid_time": one}}}
    assert horizon_lines(scores(methods=methods)) == [
        "horizons, medians over forecasts",
        "  unet: valid_time - [3, -] s (beyond the last lead time), reached by 50 [40, 62.5] % of the forecasts",
    ]


def test_scores_asked_for_by_name_are_printed_and_those_not_to_be_had_named() -> None:
    found = {"meaning": "largest |e|", "groups": {"t2m": {"by_lead_time": CURVE}}}
    methods = {"unet": {"scores": {"max_error": found}, "without": ["crps"]}, "persistence": {}}
    assert chosen_lines(scores(methods=methods)) == [
        "scores that were asked for",
        "  max_error: largest |e|",
        "  unet  first to last lead time: t2m 0.1 [0.05, 0.2] to -  3 failed",
        "  unet has no crps",
    ]
    assert chosen_lines(scores(methods={"persistence": {}})) == []
