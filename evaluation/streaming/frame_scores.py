"""Frame scores: what one frame of a batch of forecasts adds to the score states; the frame can be dropped then.

What each number means, and how scores are made of them: `point_sums`, `frame_spectra`, `conservation`, `scores`.

Shapes: B forecasts of a batch, V variables, H rows, W columns, R regions, K statistics.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pelagos.evaluation.conservation import density_arrays, domain_means
from pelagos.evaluation.frame_sums.extra_sums import Spectra
from pelagos.evaluation.frame_sums.grid_scale import grid_scale
from pelagos.evaluation.frame_sums.spectral_sums import SPECTRA
from pelagos.evaluation.frame_sums.spectral_sums import STATISTICS as SPECTRAL
from pelagos.evaluation.point_sums import point_sums
from pelagos.evaluation.streaming.frame_spectra import Modes
from pelagos.evaluation.streaming.score_plan import BINS, REACH, TRUTH, PlanPart, ScorePlan
from pelagos.evaluation.streaming.score_state import ScoreState
from pelagos.preprocessing.array_types import Flags, Floats, Ints
from pelagos.preprocessing.samples.kernel_cache import compiled

Fields = NDArray[Any]
"""(B, V, H, W) physical values: float32, or float64 where a variable needs it."""
NEVER_FORECAST = ("climatology", "seasonal_climatology")
"""Methods without a value where the training split never had one; any other without a value has failed."""


class BatchScores:
    """Scores of one batch of forecasts in the making, frame by frame."""

    def __init__(self, plan: ScorePlan, samples: slice, initial_BVHW: Fields) -> None:
        self._plan, self._samples = plan, samples
        self._initial = initial_BVHW
        holes = np.isnan(initial_BVHW)
        self._complete_B = np.asarray(~holes.any(axis=(1, 2, 3)))
        self._started_BVHW = None if self._complete_B.all() else _forecastable(plan, holes)
        self.states: dict[str, ScoreState] = {}
        # By identity: persistence gives the same array at every lead time, and comparing values would cost as much.
        self._known: dict[tuple[str, str], tuple[Fields, NDArray[Any]]] = {}
        self._positions = {method: plan.positions(method) for method in plan.methods}
        count = samples.stop - samples.start
        self._scales = {
            method: np.tile(plan.scales[positions], (count, 1))
            for method, positions in self._positions.items()
        }
        # Of the part's lead times, the places among those shown and those thinned.
        self._shown: dict[int, int] = {}
        self._thinned: dict[int, int] = {}

    def begin(self, leads: slice) -> None:
        """Allocate the states for a part of the lead times."""
        part = PlanPart(self._samples, leads)
        self._shown, self._thinned = (
            {lead: place for place, lead in enumerate(positions.tolist())}
            for positions in (self._plan.shown_in(part), self._plan.thinned_in(part))
        )
        self.states = {
            name: ScoreState.empty(self._plan, name, part) for name in (TRUTH, *self._plan.methods)
        }
        kept = self.states[TRUTH].arrays
        kept["complete"][:] = self._complete_B
        for number, density_BHW in enumerate(self._densities(TRUTH, self._initial)):
            kept["initial_quantities"][:, number] = self._means(density_BHW)
            kept["quantity_scales"][:, number] = self._means(np.abs(density_BHW))

    def add(
        self,
        lead: int,
        truth_BVHW: Fields,
        forecasts: Mapping[str, Fields],
        climatology_BVHW: Fields | None = None,
    ) -> None:
        """Add the frame of one lead time: the truth, NaN where missing, and each method's own variables."""
        scored_BVHW = truth_BVHW
        if self._started_BVHW is not None:
            scored_BVHW = np.where(self._started_BVHW, truth_BVHW, np.asarray(np.nan, truth_BVHW.dtype))
        # Forecasts that blew up overflow, and are counted as such.
        with np.errstate(over="ignore", invalid="ignore"):
            modes = self._add_truth(lead, truth_BVHW)
            for method, forecast_BVHW in forecasts.items():
                self._add_forecast(
                    method, lead, forecast_BVHW, truth_BVHW, scored_BVHW, modes, climatology_BVHW
                )

    def _add_truth(self, lead: int, truth_BVHW: Fields) -> Modes | None:
        state = self.states[TRUTH]
        row = lead - state.part.leads.start
        state.arrays["count"][:, row] = _count(truth_BVHW)
        modes = self._modes(TRUTH, lead, truth_BVHW)
        self._add_any(TRUTH, lead, truth_BVHW, truth_BVHW, modes)
        return modes

    def _add_forecast(
        self,
        method: str,
        lead: int,
        p_BVHW: Fields,
        truth_BVHW: Fields,
        scored_BVHW: Fields,
        truth_modes: Modes | None,
        climatology_BVHW: Fields | None,
    ) -> None:
        state, positions = self.states[method], self._positions[method]
        row = lead - state.part.leads.start
        t_BVHW = _chosen(scored_BVHW, positions)
        if method in NEVER_FORECAST:
            t_BVHW = np.where(np.isnan(p_BVHW), np.asarray(np.nan, t_BVHW.dtype), t_BVHW)
        if t_BVHW is not truth_BVHW:
            state.arrays["left_out"][:, row] = _count(truth_BVHW)[:, positions] - _count(t_BVHW)
        self._add_points(state, row, p_BVHW, t_BVHW)
        self._add_maps(state, lead, p_BVHW, t_BVHW)
        modes, spectra = self._modes(method, lead, p_BVHW), None
        if self._plan.spectra is not None and modes is not None and truth_modes is not None:
            shape = (len(p_BVHW), -1, *truth_modes.shape[1:])
            own_modes = _flat(_chosen(truth_modes.reshape(shape), positions))
            energies = self._plan.spectra.energy(modes, own_modes)
            if self._plan.extra.wants((*SPECTRAL, *SPECTRA)):
                own, of_truth = (self._plan.spectra.energy(one) for one in (modes, own_modes))
                spectra = Spectra(own, of_truth, energies)
            if lead in self._thinned:
                energy = energies.reshape(*p_BVHW.shape[:2], -1)
                self._add_spectra(state, self._thinned[lead], "error_", energy)
        if self._plan.extra.width:
            normal = None if climatology_BVHW is None else _chosen(climatology_BVHW, positions)
            state.arrays["extra"][:, row] = self._plan.extra.gather(
                p_BVHW, t_BVHW, positions, spectra, normal
            )
        self._add_grid_scale(state, lead, p_BVHW, t_BVHW)
        self._add_any(method, lead, p_BVHW, t_BVHW, modes)

    def _add_points(self, state: ScoreState, row: int, p_BVHW: Fields, t_BVHW: Fields) -> None:
        scales = self._scales[state.method]
        for number, region in enumerate(self._plan.regions):
            box = (slice(None), region.rows, region.columns)
            p, t = (np.ascontiguousarray(_flat(fields)[box]) for fields in (p_BVHW, t_BVHW))
            sums = point_sums(p, t, region.weights[box[1:]], scales)
            state.arrays["points"][:, row, number] = sums.reshape(*p_BVHW.shape[:2], -1)

    def _add_maps(self, state: ScoreState, lead: int, p_BVHW: Fields, t_BVHW: Fields) -> None:
        if lead not in self._shown:
            return
        valid = ~np.isnan(t_BVHW)
        error = np.where(np.isfinite(p_BVHW), p_BVHW, np.nan).astype(np.float64) - t_BVHW
        square = np.where(np.isnan(error), np.inf, error**2)
        for which, values in enumerate((np.ones(1), error, square)):
            state.arrays["maps"][self._shown[lead], :, which] = np.where(valid, values, 0.0).sum(axis=0)

    def _add_grid_scale(self, state: ScoreState, lead: int, p_BVHW: Fields, t_BVHW: Fields) -> None:
        if lead not in self._thinned:
            return
        found = grid_scale(
            _flat(p_BVHW), _flat(t_BVHW), self._plan.regions[0].weights, self._plan.grid.periodic
        )
        for place, energy in enumerate(found.values()):
            state.arrays["alternating"][:, self._thinned[lead], :, place] = energy.reshape(p_BVHW.shape[:2])

    def _add_any(self, method: str, lead: int, fields: Fields, t_BVHW: Fields, modes: Modes | None) -> None:
        """What is kept of the truth and of forecasts alike."""
        state = self.states[method]
        state.done[:, lead - state.part.leads.start] = True
        if lead in self._shown:
            for picture in state.arrays["pictures"]:
                picture[self._shown[lead]] = fields[self._plan.pictured - state.part.samples.start]
        if lead not in self._thinned:
            return
        row = self._thinned[lead]
        state.arrays["quantities"][:, row] = self._once(
            "quantities", method, fields, lambda: self._quantities(method, fields)
        )
        scales = self._plan.scales[self._plan.positions(method)]
        _count_bins(
            fields, t_BVHW, scales[:, 0], BINS / (2 * REACH * scales[:, 1]), state.arrays["histogram"][row]
        )
        if (transform := self._plan.spectra) is not None and modes is not None:
            energy = self._once("energy", method, fields, lambda: transform.energy(modes))
            energy = energy.reshape(*fields.shape[:2], -1)
            self._add_spectra(state, row, "", energy)
            if lead in self._shown:
                state.arrays["spectra"][:, self._shown[lead]] = energy

    def _add_spectra(self, state: ScoreState, row: int, prefix: str, energy_BVK: Floats) -> None:
        """Keep the energy of each band, and add up and count those spectra that are of numbers."""
        whole = np.asarray(np.isfinite(energy_BVK).all(axis=-1, keepdims=True))
        for place, (first, behind) in enumerate(self._plan.bands):
            energy_BV = energy_BVK[..., first:behind].sum(axis=-1)
            state.arrays[f"{prefix}bands"][:, row, :, place] = np.where(whole[..., 0], energy_BV, np.nan)
        state.arrays[f"{prefix}spectrum_sum"][row] = np.where(whole, energy_BVK, 0.0).sum(axis=0)
        state.arrays[f"{prefix}spectrum_count"][row] = whole[..., 0].sum(axis=0)

    def _quantities(self, method: str, fields: Fields) -> Floats:
        """(B, Q) the domain's means."""
        densities = self._densities(method, fields)
        means = np.empty((len(fields), len(densities)))
        for number, density_BHW in enumerate(densities):
            means[:, number] = self._means(density_BHW)
        return means

    def _modes(self, method: str, lead: int, fields: Fields) -> Modes | None:
        """The modes of a frame, where anything is made of them at this lead time."""
        transform = self._plan.spectra
        if transform is None or not (lead in self._thinned or self._plan.extra.wants((*SPECTRAL, *SPECTRA))):
            return None
        return self._once("modes", method, fields, lambda: transform.modes(_flat(fields)))

    def _once(self, what: str, method: str, fields: Fields, make: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        """What is made of a frame; of one that is given again, what was made the last time."""
        known = self._known.get((what, method))
        if known is not None and known[0] is fields:
            return known[1]
        made = make()
        self._known[what, method] = fields, made
        return made

    def _densities(self, method: str, fields: Fields) -> list[Fields]:
        names = self._plan.variables_of(method)
        if not self._plan.quantities_of(method):
            return []
        by_name = {name: fields[:, number] for number, name in enumerate(names)}
        found = density_arrays(by_name, self._plan.grid)
        return [found[name] for name in self._plan.quantities]

    def _means(self, density_BHW: Fields) -> Floats:
        return domain_means(density_BHW, self._plan.regions[0].weights)


def _forecastable(plan: ScorePlan, holes_BVHW: Flags) -> Flags:
    """Where there is a value to start from; diagnostic fields start from nothing."""
    started = np.ones(holes_BVHW.shape, np.bool_)
    started[:, plan.prognostic] = ~holes_BVHW[:, plan.prognostic]
    return started


def _chosen(values: NDArray[Any], positions: Ints) -> NDArray[Any]:
    """Some of the variables along the second axis; the array itself where these are all, in order."""
    if len(positions) == values.shape[1] and np.all(np.diff(positions) == 1):
        return values
    return values[:, positions]


def _flat(values: NDArray[Any]) -> NDArray[Any]:
    return values.reshape(-1, *values.shape[2:])


def _count(fields_BVHW: Fields) -> Ints:
    """(B, V) how many points have a value."""
    counts = np.zeros(fields_BVHW.shape[:2], np.int64)
    _count_values(fields_BVHW, counts)
    return counts


@compiled
def _count_values(fields_BVHW: Fields, out_BV: Ints) -> None:
    batch, variables, rows, columns = fields_BVHW.shape
    for b in range(batch):
        for v in range(variables):
            for y in range(rows):
                row, there = fields_BVHW[b, v, y], np.int64(0)
                for x in range(columns):
                    there += np.int64(row[x] == row[x])
                out_BV[b, v] += there


@compiled
def _count_bins(p_BVHW: Fields, t_BVHW: Fields, means_V: Floats, per_unit_V: Floats, out: Ints) -> None:
    """Count finite values where there is a truth; the first and the last bin hold all that lie beyond the others."""
    batch, variables, rows, columns = p_BVHW.shape
    last = out.shape[1] - 1
    for b in range(batch):
        for v in range(variables):
            for y in range(rows):
                for x in range(columns):
                    p, t = p_BVHW[b, v, y, x], t_BVHW[b, v, y, x]
                    if t == t and abs(p) < np.inf:
                        place = (p - means_V[v]) * per_unit_V[v] + (last + 1) / 2
                        out[v, int(min(max(place, 0.0), last))] += 1
