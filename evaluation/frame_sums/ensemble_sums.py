"""Ensemble sums: what probabilistic scores need of the members of one frame, in numbers that can be added.

Shapes: N fields, M members, H rows, W columns. x a member, y the truth, ⟨·⟩ the weighted mean over points.
CRPS = E|x − y| − ½ E|x − x′| and the energy score with norms of whole fields in place of absolute values (Gneiting and
Raftery, 2007); *fair* takes pairs of different members only (Ferro, 2014). Both follow from the sums kept here.
"""

import numpy as np

from pelagos.preprocessing.array_types import Flags, Floats

STATISTICS = (
    "ensemble_weight",
    "ensemble_absolute_error",
    "ensemble_pairs",
    "ensemble_variance",
    "mean_squared_error",
    "energy_error",
    "energy_pairs",
)
RANKS = "ranks"


def ensemble_sums(members_NMHW: Floats, truth_NHW: Floats, weights_HW: Floats) -> dict[str, Floats]:
    """(N,) weighted sums over points, and (N, M + 1) `ranks`.

    Points without a truth don't count. A frame of which a member is not a number has infinite errors.
    """
    valid = ~np.isnan(truth_NHW)
    failed: Flags = np.asarray((~np.isfinite(members_NMHW) & valid[:, None]).any(axis=(1, 2, 3)))
    usable = valid & ~failed[:, None, None]
    x = np.where(usable[:, None], members_NMHW, 0.0).astype(np.float64)
    y = np.where(usable, truth_NHW, 0.0).astype(np.float64)
    weights = np.where(usable, weights_HW, 0.0)
    centre, m = x.mean(axis=1), x.shape[1]
    points = {
        "ensemble_weight": np.broadcast_to(weights_HW * valid, y.shape),
        "ensemble_absolute_error": weights * np.abs(x - y[:, None]).mean(axis=1),
        "ensemble_pairs": weights * _pair_distance(x),
        # The unbiased variance of the members; one member has none.
        "ensemble_variance": weights * x.var(axis=1, ddof=1 if m > 1 else 0),
        "mean_squared_error": weights * (centre - y) ** 2,
    }
    found = {name: values.sum(axis=(-2, -1)) for name, values in points.items()}
    found |= _energy(x, y, weights)
    for name in STATISTICS[1:]:
        found[name] = np.where(failed, np.inf, found[name])
    return found | {RANKS: _ranks(x, y, weights)}


def _pair_distance(x_NMHW: Floats) -> Floats:
    """(N, H, W) mean of |x − x′| over all pairs of different members; 0 for one member.

    In order, the i-th of M members is above i others and below the rest: no pair needs to be looked at.
    """
    m = x_NMHW.shape[1]
    if m == 1:
        return np.zeros_like(x_NMHW[:, 0])
    ranks = (2 * np.arange(m) - m + 1).astype(np.float64)
    return np.asarray(np.einsum("m,nmyx->nyx", ranks, np.sort(x_NMHW, axis=1)) * (2 / (m * (m - 1))))


def _energy(x_NMHW: Floats, y_NHW: Floats, weights_NHW: Floats) -> dict[str, Floats]:
    """(N,) means over members, and over pairs of different members, of √⟨(·)²⟩."""
    total = weights_NHW.sum(axis=(-2, -1))
    over = np.where(total > 0, total, 1.0)[:, None]
    error = np.einsum("nmyx,nyx->nm", (x_NMHW - y_NHW[:, None]) ** 2, weights_NHW) / over
    m = x_NMHW.shape[1]
    pairs = np.zeros(len(x_NMHW))
    for first in range(m):
        gaps = (x_NMHW[:, first + 1 :] - x_NMHW[:, first, None]) ** 2
        pairs += np.sqrt(np.einsum("nmyx,nyx->nm", gaps, weights_NHW) / over).sum(axis=1)
    return {"energy_error": np.sqrt(error).mean(axis=1), "energy_pairs": pairs * (2 / max(m * (m - 1), 1))}


def _ranks(x_NMHW: Floats, y_NHW: Floats, weights_NHW: Floats) -> Floats:
    """(N, M + 1) weights of the points at which so many members are below the truth; ties are shared out evenly."""
    m = x_NMHW.shape[1]
    below = (x_NMHW < y_NHW[:, None]).sum(axis=1)
    above = (x_NMHW > y_NHW[:, None]).sum(axis=1)
    # With some members equal to the truth, all ranks from `below` to m − above are as likely.
    share = weights_NHW / (m - above - below + 1)
    ranks = np.arange(m + 1)
    inside = (ranks[:, None, None] >= below[:, None]) & (ranks[:, None, None] <= (m - above)[:, None])
    return np.asarray(np.einsum("nryx,nyx->nr", inside, share))
