"""Formula: terms that are added over variables and forecasts, and what is computed of the added-up terms.

Shapes: S samples, L lead times, V variables, K wavenumbers, ranks or thresholds. e = forecast − truth, t = truth,
w the weights of points, σ and μ a variable's deviation and mean over the training split.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pelagos.preprocessing.array_types import Floats

Terms = Mapping[str, Floats]
Better = Literal["lower", "higher", "near zero", "near one", "none"]


@dataclass(frozen=True)
class Parameters:
    """What a formula leaves open, see `ScoreDefinition`; `members` of the ensemble."""

    eps: float = 0.0
    floor: float = 0.0
    ddof: int = 0
    entries: tuple[int, int | None] = (0, None)
    members: int = 1


@dataclass(frozen=True)
class Formula:
    """How a score is computed of statistics.

    Attributes:
        text: in symbols.
        needs: statistics (S, L, V, ...).
        terms: of the statistics of each field, what is added over variables and forecasts.
        finish: (..., [K]) terms to (...) scores.
        better: which scores are the better ones.
        add: whether terms are added; otherwise the largest counts.
    """

    text: str
    needs: tuple[str, ...]
    terms: Callable[[Terms, Parameters], dict[str, Floats]]
    finish: Callable[[Terms, Parameters], Floats]
    better: Better = "lower"
    add: bool = True


def ratio(numerator: Floats, denominator: Floats) -> Floats:
    """NaN, that is undefined, where the denominator is zero."""
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        return np.asarray(np.where(denominator > 0, numerator / denominator, np.nan))


def fraction(numerator: str, denominator: str) -> Callable[[Terms, Parameters], dict[str, Floats]]:
    """Two statistics as the terms `above` and `below`."""

    def terms(s: Terms, _: Parameters) -> dict[str, Floats]:
        return {"above": s[numerator], "below": s[denominator]}

    return terms


def same(*names: str) -> Callable[[Terms, Parameters], dict[str, Floats]]:
    """Statistics as they are."""

    def terms(s: Terms, _: Parameters) -> dict[str, Floats]:
        return {name: s[name] for name in names}

    return terms


def plain(terms: Terms, given: Parameters) -> Floats:
    """`above` over `below`, which is at least the floor."""
    return ratio(terms["above"], np.maximum(terms["below"], given.floor))


def root(terms: Terms, _: Parameters) -> Floats:
    """√(`above` / `below`)."""
    return np.asarray(np.sqrt(ratio(terms["above"], terms["below"])))


def over_entries(values: Floats, given: Parameters) -> Floats:
    """(...) the mean of the counted entries of the last axis; NaN where there is none."""
    counted = values[..., slice(*given.entries)]
    return np.asarray(counted.mean(axis=-1)) if counted.shape[-1] else np.full(values.shape[:-1], np.nan)
