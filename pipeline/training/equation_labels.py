"""Equation labels: what follows from any state of a dataset by its equation, as a target of training.

Shapes: B samples, K forecast steps, P prognostic channels, H rows, W columns.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, PositiveFloat, PositiveInt, ValidationError
from torch import Tensor

from pelagos.models.layers.fourier_resample import fourier_resample
from pelagos.preprocessing.array_types import Floats
from pelagos.preprocessing.config import Config
from pelagos.preprocessing.errors import ConfigError, DataError
from pelagos.preprocessing.physics.equation import Equation, declared, stated_equation
from pelagos.preprocessing.physics.equation_fit import EquationFit, check_fit
from pelagos.preprocessing.physics.parameter import Range, bounds, contradicts, span, stated_value
from pelagos.preprocessing.physics.pde import PDE
from pelagos.preprocessing.samples.allowed_symmetries import UNSTATED_FORCES
from pelagos.preprocessing.samples.augment_config import AugmentConfig
from pelagos.preprocessing.samples.batch import Batch
from pelagos.preprocessing.samples.dataset import Dataset
from pelagos.preprocessing.store.sample_store import SampleStore
from pelagos.preprocessing.variables import keys


class EquationLabelsConfig(Config):
    """Training on the network's own states, labelled by the equation that the data obey.

    Attributes:
        equation: what the data obey; its scalars and static fields are the store's, and numbers that it sets stand in
            where a trajectory has no value of a scalar.
        share: of the samples of each micro-batch that become states of the network's own, rounded to whole samples.
        rollout: the most steps of the shortest lead time by which the network gets to such a state from a frame of
            the data; how many is drawn anew for each micro-batch, and may be none where something new is drawn.
        finer: points of the solver's grid along each axis for one of the store's; not of equations solved in cells.
        dt: longest time step of the solver; by default the equation chooses.
        limit: a state or label with a value of more standard deviations has blown up, and the sample stays as it was.
        scalars: ranges of the equation's scalars from which each such sample draws new ones; those not named stay the
            sample's.
        static: the static fields that the equation takes, such as its force: the sample's own; means of two such
            samples', in drawn shares; or drawn by the equation, as for a simulation.
        states: the frames that such samples start from: their own, or means of two, in drawn shares as well.
    """

    equation: Equation
    share: float = Field(default=0.5, gt=0, le=1)
    rollout: PositiveInt = 4
    finer: PositiveInt = 1
    dt: PositiveFloat | None = None
    limit: PositiveFloat = 10.0
    scalars: Mapping[str, Range] = Field(default_factory=dict)
    static: Literal["own", "mixed", "drawn"] = "own"
    states: Literal["own", "mixed"] = "own"

    @property
    def draws(self) -> bool:
        """Whether a frame of the data becomes another problem: from this on the equation has something to tell."""
        return bool(self.scalars) or self.static != "own" or self.states != "own"

    @property
    def mixes(self) -> bool:
        """Whether it takes two samples to make one."""
        return "mixed" in (self.static, self.states)

    def labelled(self, samples: int) -> int:
        """How many of the samples of a micro-batch the equation labels, at least one."""
        return max(1, round(self.share * samples))

    def augment(self, augment: AugmentConfig, store: SampleStore) -> AugmentConfig:
        """The symmetries by which samples of a store that obeys this equation are transformed.

        Raises:
            ConfigError: another equation is stated there.
        """
        if augment.equation:
            self._check_same(augment.equation, store)
        # A simulation knows its own.
        if augment.equation or store.symmetries is not None:
            return augment
        changes = {
            "equation": self.equation.model_dump(mode="json"),
            # The equation takes away what it forbids. What it would add to the defaults is for those who ask: samples
            # that were right stay as they are without labels.
            "negate": bool(augment.negate),
            "auto": augment.auto and (bool(augment.force) or store.archive not in UNSTATED_FORCES),
        }
        return augment.model_copy(update=changes)

    def _check_same(self, stated: str | dict[str, Any], store: SampleStore) -> None:
        other, kind = stated_equation(stated), self.equation.kind
        # By its kind an equation is stated in any of its forms.
        same_fields = isinstance(stated, str) or (
            declared(other.build()).names == declared(self.equation.build()).names
        )
        if other.kind != kind or not same_fields:
            raise ConfigError(
                f"{store.label}: data.augment.equation {stated} is another than equation_labels.equation, of kind"
                f" {kind}: leave out the former, or state the same"
            )

    def check(self, store: SampleStore) -> EquationFit:
        """Check that the equation is that of a store's data, before samples take its symmetries.

        Raises:
            DataError: the store's fields, grid or units are not the equation's.
        """
        equation = self.equation.build()
        _check_fields(equation, store)
        return check_fit(equation, store)

    def build(self, dataset: Dataset) -> "EquationLabels":
        """The labels of a dataset.

        Raises:
            ConfigError: its samples have other frames as well or no time to pass, or the grid can't be finer.
            DataError: the store's fields, grid, units or scalars are not the equation's.
        """
        equation = self.equation.build()
        if self.static != "own" and not equation.static_variables:
            raise ConfigError(
                f"equation_labels.static={self.static}: the {equation.kind} equation takes no static fields"
            )
        if self.finer > 1 and equation.first_point != 0:
            # Means of cells say nothing of what is within them: labels would be smoother than the data.
            raise ConfigError(
                f"equation_labels.finer: {equation.kind} is solved in the cells of the store alone"
            )
        _check_samples(dataset)
        time = self.check(dataset.store).time
        _check_scalars(self.scalars, self.equation, equation, dataset)
        constants = _constants(self, equation, dataset)
        _check_scalings(constants, dataset)
        return EquationLabels(self, equation, dataset, time, constants)


def _check_samples(dataset: Dataset) -> None:
    label, config = dataset.store.label, dataset.config
    if dataset.store.num_times == 1:
        raise ConfigError(f"equation_labels: {label} is of steady problems, in which nothing propagates")
    if config.history:
        raise ConfigError(f"equation_labels: {label}: data.history {list(config.history)} must be empty")
    if getattr(dataset.sampling, "identity", False):
        raise ConfigError(f"equation_labels: {label}: data.sampling.identity pairs frames no time apart")


def _check_fields(equation: PDE, store: SampleStore) -> None:
    """Refuse fields that the equation cannot tell the future of, or that it needs and does not get."""
    label, outputs = store.label, (v for v in store.variables if v.role != "forcing")
    own, needed = keys(outputs), keys(equation.variables)
    if missing := [key for key in needed if key not in own]:
        raise DataError(
            f"equation_labels: {label} lacks {', '.join(missing)}, which the {equation.kind} equation needs"
        )
    if others := [key for key in own if key not in needed]:
        raise DataError(
            f"equation_labels: {label} has {', '.join(others)}, which the {equation.kind} equation does not"
            " propagate: build a store without"
        )
    static = keys(store.static_variables)
    if missing := [key for key in keys(equation.static_variables) if key not in static]:
        raise DataError(
            f"equation_labels: {label} lacks the static fields {', '.join(missing)} of the {equation.kind} equation"
        )
    if store.num_missing:
        raise DataError(f"equation_labels: {label} has missing values, from which nothing can be propagated")
    for variable in (*store.variables, *store.static_variables):
        if variable.key in (*needed, *keys(equation.static_variables)) and variable.transform is not None:
            raise DataError(
                f"equation_labels: {label}: {variable.key} is stored as {variable.describe_values()}, the equation"
                " takes the field itself"
            )


def _check_scalars(ranges: Mapping[str, Range], config: Config, equation: PDE, dataset: Dataset) -> None:
    """Refuse to draw what the equation does not take, or the network is not told."""
    for name, values in ranges.items():
        if name not in equation.scalars:
            raise ConfigError(
                f"equation_labels.scalars.{name}: the {equation.kind} equation takes"
                f" {', '.join(equation.scalars) or 'none'}"
            )
        if name not in dataset.layout.scalars:
            raise ConfigError(
                f"equation_labels.scalars.{name}: {dataset.store.label} has no such scalar, so that the network would"
                " not know what was drawn"
            )
        if name in type(config).model_fields:
            try:
                type(config).model_validate({name: values.model_dump()})
            except ValidationError as error:
                raise ConfigError(f"equation_labels.scalars.{name}: {error.errors()[0]['msg']}") from None


def _constants(config: EquationLabelsConfig, equation: PDE, dataset: Dataset) -> Mapping[str, float]:
    """The scalars of the equation that some trajectory lacks and that are not drawn, by the configuration's numbers."""
    store, found = dataset.store, dict[str, float]()
    for name in equation.scalars:
        if name in config.scalars or np.isfinite(_stored(name, dataset)).all():
            continue
        given = stated_value(config.equation, name)
        if not isinstance(given, float | int):
            raise DataError(
                f"equation_labels: {store.label} has trajectories without a value of {name}: say"
                f" equation_labels.equation.{name}=NUMBER"
            )
        found[name] = float(given)
    return found


def _stored(name: str, dataset: Dataset) -> Floats:
    """(N,) the values of a scalar in the store, NaN where a trajectory has none."""
    store = dataset.store
    if name not in store.params:
        return np.full(len(store.scalar_values), np.nan)
    return store.scalar_values[:, store.params.index(name)]


def _check_scalings(constants: Mapping[str, float], dataset: Dataset) -> None:
    """Refuse scalings of what the equation's configuration stands in for: samples do not carry the factors of each."""
    families = dataset.augmentation.scalings if dataset.augmentation else ()
    if changed := sorted({name for family in families for name in family.powers} & set(constants)):
        raise ConfigError(
            f"equation_labels: data.augment.scale changes {', '.join(changed)}, of which trajectories of"
            f" {dataset.store.label} have no value: build the store with the values, or leave out the scalings"
        )


@dataclass(frozen=True, eq=False)
class EquationLabels:
    """Propagates states of a dataset's samples, which may have been augmented, in physical units.

    Attributes:
        config: shares, and how the equation is solved.
        equation: what the data obey.
        dataset: the samples.
        time: the store's unit of time in the equation's.
        constants: values of scalars, for trajectories that have none.
    """

    config: EquationLabelsConfig
    equation: PDE
    dataset: Dataset
    time: float
    constants: Mapping[str, float]

    @property
    def remarks(self) -> Iterator[str]:
        """Which numbers of the configuration stand in for values of the store, and which are not used."""
        for name, value in self.constants.items():
            known = np.isfinite(_stored(name, self.dataset))
            where = (
                f", for the {(~known).sum()} of {len(known)} trajectories without a value"
                if known.any()
                else ""
            )
            yield f"{name} is taken to be {value:g}, as the equation says{where}"
        for name in self.equation.scalars:
            if (given := stated_value(self.config.equation, name)) is not None:
                yield from self._unused(name, given)
        if self.config.static == "drawn":
            yield from self._sizes()

    def _sizes(self) -> Iterator[str]:
        """How large the static fields are that the equation draws, beside those of the data."""
        store, names = self.dataset.store, keys(self.equation.static_variables)
        drawn = self._static(np.random.default_rng(0), 256).square().mean((0, 2, 3)).sqrt().tolist()
        for name, value in zip(names, drawn, strict=True):
            place = keys(store.static_variables).index(name)
            own = np.hypot(store.stats.static_mean[place], store.stats.static_std[place])
            yield f"{name} is drawn by the equation: {value:.3g} in root mean square, in the data {own:.3g}"

    def _unused(self, name: str, given: float | Range) -> Iterator[str]:
        """A remark where the configuration says otherwise of a scalar than what labels are made with."""
        what = f"equation_labels.equation.{name}, {span(*bounds(given))}"
        stored = _stored(name, self.dataset)
        stored = stored[np.isfinite(stored)]
        if name in self.config.scalars:
            yield f"{what}, is not used: equation_labels.scalars.{name} draws new values"
        elif contradicts(given, stored):
            values = span(stored.min(), stored.max())
            yield f"{what}, is not used where {self.dataset.store.label} has values of its own, {values}"

    def frames(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """(B,) frames of one forecast step, and the factors of time of the samples' scalings, in float64."""
        frames_B = (batch.index[:, 2] - batch.index[:, 1]).to(batch.lead_time.device) // batch.steps
        lead_B = batch.lead_time.reshape(len(batch), -1)[:, 0].double()
        factor_B = lead_B * (batch.layout.time_scale / self.dataset.store.dt) / frames_B
        # Lead times are in float32; a sample that is not scaled shares its time step with the others.
        return frames_B, torch.where((factor_B - 1).abs() < 1e-5, 1.0, factor_B)

    def drawn_scalars(self, batch: Batch) -> Tensor:
        """(B, S) scalars with new ones from the ranges, by torch's draws on the host, the same with any device."""
        scalars_BS = batch.scalars.clone()
        for name, values in self.config.scalars.items():
            share_B = torch.rand(len(batch), dtype=torch.float64, device="cpu")
            drawn_B = values.at(share_B.numpy())
            scalars_BS[:, batch.layout.scalars.index(name)] = torch.from_numpy(drawn_B).to(scalars_BS)
        return scalars_BS

    def renewed(self, inputs_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) inputs with states and static fields of the equation that are mixed or drawn as configured."""
        config, static = self.config, keys(self.equation.static_variables)
        mixed = keys(self.equation.variables) if config.states == "mixed" else ()
        mixed += static if config.static == "mixed" else ()
        found = self._mixed(inputs_BCHW, mixed) if mixed else inputs_BCHW
        return self._drawn(found, static) if config.static == "drawn" else found

    def _mixed(self, inputs_BCHW: Tensor, wanted: Sequence[str]) -> Tensor:
        channels = self._positions(wanted, keys(self.dataset.layout.inputs))
        # On the host, where draws are the same with any device.
        partner_B = torch.randperm(len(inputs_BCHW), device="cpu").to(inputs_BCHW.device)
        share_B = torch.rand(len(inputs_BCHW), 1, 1, 1, device="cpu").to(inputs_BCHW)
        own, found = inputs_BCHW[:, channels], inputs_BCHW.clone()
        found[:, channels] = torch.lerp(own[partner_B], own, share_B)
        return found

    def _drawn(self, inputs_BCHW: Tensor, wanted: Sequence[str]) -> Tensor:
        channels = self._positions(wanted, keys(self.dataset.layout.inputs))
        seed = int(torch.randint(2**62, (), device="cpu"))
        physical, found = inputs_BCHW.double(), inputs_BCHW.clone()
        physical[:, channels] = self._static(np.random.default_rng(seed), len(physical)).to(physical)
        found[:, channels] = self.dataset.input_normalizer.normalize(physical)[:, channels].to(found)
        return found

    def _static(self, rng: np.random.Generator, number: int) -> Tensor:
        """(N, Cs, H, W) static fields that the equation draws; float64."""
        h, w = self.dataset.store.grid.shape
        return torch.cat([self.equation.draw(rng, (h, w)).static for _ in range(number)])

    @torch.no_grad()
    def targets(self, batch: Batch, state_BPHW: Tensor) -> Tensor:
        """Normalised fields in the shape of the batch's targets, by the equation from other states.

        Args:
            batch: samples whose lead times, static fields and scalars count.
            state_BPHW: initial states, normalised.
        """
        with torch.autocast(state_BPHW.device.type, enabled=False):
            inputs = torch.cat([state_BPHW, batch.inputs[:, state_BPHW.shape[1] :]], 1).double()
            physical = self.dataset.input_normalizer.denormalize(inputs)
            frames_B, factor_B = self.frames(batch)
            found = physical.new_empty(
                len(batch), batch.steps, len(self.equation.variables), *inputs.shape[2:]
            )
            for factor in factor_B.unique():
                rows = (factor_B == factor).nonzero()[:, 0]
                interval = float(factor) * self.dataset.store.dt * self.time
                found[rows] = self._solve(
                    physical[rows], self._scalars(batch, rows), frames_B[rows], interval, batch.steps
                )
            order = self._positions(keys(batch.layout.outputs), keys(self.equation.variables))
            targets = self.dataset.output_normalizer.normalize(found[:, :, order])
        return targets.to(batch.targets).reshape(batch.targets.shape)

    def _solve(
        self, inputs_BCHW: Tensor, scalars_BS: Tensor, frames_B: Tensor, interval: float, steps: int
    ) -> Tensor:
        """(B, K, P, H, W) physical fields, in the equation's order, a whole number of frames apart each."""
        equation, names = self.equation, keys(self.dataset.layout.inputs)
        shape = (inputs_BCHW.shape[-2], inputs_BCHW.shape[-1])
        fine = (shape[0] * self.config.finer, shape[1] * self.config.finer)
        inputs = inputs_BCHW if fine == shape else fourier_resample(inputs_BCHW, fine)
        state, static = (
            inputs[:, self._positions(keys(wanted), names)]
            for wanted in (equation.variables, equation.static_variables)
        )
        found = state.new_empty(len(state), steps, state.shape[1], *shape)
        # Frame by frame, all samples at once: those of short lead times come to their end before the others.
        for done in range(1, steps * int(frames_B.max()) + 1):
            [going] = (frames_B * steps >= done).nonzero(as_tuple=True)
            state[going] = equation.propagate(
                state[going], static[going], scalars_BS[going], interval, self.config.dt
            )
            [there] = ((done % frames_B == 0) & (frames_B * steps >= done)).nonzero(as_tuple=True)
            found[there, done // frames_B[there] - 1] = equation.coarsen(state[there], shape)
        return found

    def _scalars(self, batch: Batch, rows: Tensor) -> Tensor:
        """(B, S) of some samples, in the equation's order; float64."""
        columns = [self._scalar(name, batch, rows) for name in self.equation.scalars]
        return torch.stack(columns, 1) if columns else batch.scalars.new_empty(len(rows), 0).double()

    def _scalar(self, name: str, batch: Batch, rows: Tensor) -> Tensor:
        """(B,) of some samples: their own, which may have been drawn, or else the configuration's; float64."""
        fallback = self.constants.get(name, torch.nan)
        if name not in batch.layout.scalars:
            return torch.full((len(rows),), fallback, dtype=torch.float64, device=rows.device)
        own_B = batch.scalars[rows, batch.layout.scalars.index(name)].double()
        return torch.where(own_B.isfinite(), own_B, fallback)

    @staticmethod
    def _positions(wanted: Sequence[str], names: Sequence[str]) -> list[int]:
        return [names.index(name) for name in wanted]
