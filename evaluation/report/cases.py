"""Cases: the best, the median and the worst forecast of a method."""

import numpy as np

from pelagos.evaluation.conventions.convention_scores import HEADLINE
from pelagos.evaluation.conventions.score_reduction import score_by_sample
from pelagos.evaluation.report.score_numbers import ScoreNumbers

_ROLLOUT = next(one for one in HEADLINE if one.name == "rollout")


def ranked_cases(numbers: ScoreNumbers, method: str) -> list[tuple[str, int, float]]:
    """(worst | median | best, the sample's number, its error) by relative L1 over all lead times.

    A failed forecast is the worst there is. Fewer than three forecasts are not told apart by name.
    """
    errors = score_by_sample(_ROLLOUT, numbers.scores.statistics[method])
    order = np.argsort(errors, kind="stable")
    order = order[~np.isnan(errors[order])]
    names = {0: ["only"], 1: ["worse", "better"]}.get(min(len(order) - 1, 2), ["worst", "median", "best"])
    places = {1: [0], 2: [1, 0]}.get(len(order), [len(order) - 1, (len(order) - 1) // 2, 0])
    if len(order) == 0:
        return []
    return [
        (name, int(order[place]), float(errors[order[place]]))
        for name, place in zip(names, places, strict=True)
    ]
