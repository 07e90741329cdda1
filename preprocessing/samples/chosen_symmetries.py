"""Chosen symmetries: those that samples are transformed by, of all that are allowed."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from pelagos.preprocessing.array_types import Floats, Ints
from pelagos.preprocessing.errors import ConfigError
from pelagos.preprocessing.physics.symmetry import DeclaredSymmetries, Scaling
from pelagos.preprocessing.samples.allowed_symmetries import (
    UNSTATED_FORCES,
    SampleFields,
    fields_obstacle,
    galilean_obstacle,
    reflection_obstacle,
    roll_obstacle,
    scaling_obstacle,
    sides_obstacle,
    turn_obstacle,
)
from pelagos.preprocessing.samples.augment_config import AugmentConfig
from pelagos.preprocessing.samples.augmentation import Augmentation
from pelagos.preprocessing.store.sample_store import SampleStore
from pelagos.preprocessing.variables import keys, with_role

if TYPE_CHECKING:  # loaded where an equation is stated
    from pelagos.preprocessing.physics.pde import PDE


def augmentation(config: AugmentConfig, store: SampleStore) -> Augmentation:
    """What samples of a store are transformed by.

    Raises:
        ConfigError: something that is asked for is not allowed, there is no such equation, or it is not of such data.
    """
    groups = (
        with_role(store.variables, "prognostic"),
        store.static_variables,
        with_role(store.variables, "forcing"),
        with_role(store.variables, "diagnostic"),
    )
    names = {variable.name for group in groups for variable in group}
    if unknown := sorted(set(config.kinds) - names):
        raise ConfigError(
            f"{store.label}: augment.kinds names {', '.join(unknown)}; the fields are {', '.join(sorted(names))}"
        )
    choice = _choice(config, SampleFields(store, groups, config.kinds))
    spans, turns = choice.spans(), choice.turns()
    rolls = np.zeros((len(turns), 2), np.int64)
    if config.force:
        moves, spans = choice.keeping(turns, spans), (1, 1)
        turns, rolls = moves[:, :3], moves[:, 3:]
    return Augmentation(
        fields=choice.fields,
        spans=spans,
        turns=turns,
        rolls=rolls,
        negations=choice.negations(),
        moving=choice.moving,
        speed=choice.speed(),
        scalings=choice.scalings(),
        scale=config.scale,
        by_grid=choice.declared is None and config.auto and not config.force,
    )


def _choice(config: AugmentConfig, fields: SampleFields) -> "_Choice":
    """What is chosen by; a simulation knows its equation, and one that is stated has to be of such data."""
    if not config.equation:
        return _Choice(config, fields, fields.store.symmetries)
    # Loaded where an equation is stated.
    from pelagos.preprocessing.physics.equation import declared, stated_equation

    equation = stated_equation(config.equation).build()
    choice = _Choice(config, fields, declared(equation))
    choice.check(equation)
    return choice


@dataclass(frozen=True, eq=False)
class _Choice:
    """Which symmetries are used, of those that are allowed and asked for."""

    config: AugmentConfig
    fields: SampleFields
    declared: DeclaredSymmetries | None

    def check(self, equation: "PDE") -> None:
        """Refuse an equation that the data cannot obey.

        Raises:
            ConfigError: other fields evolve than its own, or the grid has other sides.
        """
        if obstacle := fields_obstacle(self.fields, equation):
            raise self._refusal("equation", obstacle)
        if obstacle := sides_obstacle(self.fields.store.grid, equation):
            raise ConfigError(f"{self.fields.store.label}: augment.equation: {obstacle}")

    def spans(self) -> tuple[int, int]:
        """Numbers of rows and columns by which samples are rolled, from 0 on."""
        grid, jitter = self.fields.store.grid, self.config.jitter
        obstacles = [roll_obstacle(grid, axis) for axis in (0, 1)]
        asked = True if jitter else self.config.roll
        if asked and all(obstacles):
            raise self._refusal("roll", "; ".join(obstacles))
        # Of the earth, land and orography would have to be among the channels.
        default = self._auto and (grid.kind == "cartesian" or self.declared is not None)
        used = default if asked is None else asked
        height, width = (
            min(jitter or size, size) if used and not obstacle else 1
            for size, obstacle in zip(grid.shape, obstacles, strict=True)
        )
        return height, width

    def turns(self) -> Ints:
        """(G, 3) the turns that are drawn from, the identity first."""
        config, grid = self.config, self.fields.store.grid
        # Beyond walls something may hang, flow or heat that no channel shows.
        default = self._auto and grid.kind == "cartesian" and all(grid.periodic)
        mirrors = [reflection_obstacle(self.fields, axis) for axis in (0, 1)]
        turn = turn_obstacle(self.fields)
        if self.declared is not None:
            symmetries = self.declared.symmetries
            own = [
                "" if axis in symmetries.reflections else "the equation tells its ends apart" for axis in "yx"
            ]
            mirrors = [mirror or obstacle for mirror, obstacle in zip(mirrors, own, strict=True)]
            turn = turn or ("" if symmetries.transposition else "the equation tells its axes apart")
        # Only names tell here which equation it is: whoever asks for a reflection knows better.
        directed = self.fields.directed if self.declared is None else None
        if config.reflect and all(mirrors):
            raise self._refusal("reflect", "; ".join(mirrors))
        if config.turn and turn:
            raise self._refusal("turn", turn)
        turned = not turn and (default and not directed if config.turn is None else config.turn)
        reflected = [
            not mirror and (default and axis != directed if config.reflect is None else config.reflect)
            for axis, mirror in zip("yx", mirrors, strict=True)
        ]
        found = [turn for turn in product((0, 1), repeat=3) if _reachable(turn, reflected, turned=turned)]
        return np.array(found, np.int64)

    def keeping(self, turns: Ints, spans: tuple[int, int]) -> Ints:
        """(M, 5) turns, and rolls before them, that leave the force that is no channel as it is."""
        grid = self.fields.store.grid
        if not all(grid.periodic) or not all(grid.even) or grid.kind != "cartesian":
            raise self._refusal("force", "its waves need a periodic Cartesian grid of even spacings")
        if self.config.galilean or self.config.scale != 1 or self.config.negate:
            raise self._refusal("force", "it allows neither galilean nor scale nor negate")
        # Loaded where a force is stated.
        from pelagos.preprocessing.samples.kept_force import keeping_moves

        return keeping_moves(self.config.force, grid, turns, spans)

    def negations(self) -> tuple[tuple[str, ...], ...]:
        """Groups of fields whose signs are reversed together."""
        groups: tuple[tuple[str, ...], ...] = ()
        # A field that the equation does not know might have to change its sign, too.
        if self.declared and {*keys(self.fields.groups[0])} <= {*self.declared.names}:
            groups = self.declared.symmetries.negations
        names = {variable.key: variable.transform for variable in self.fields.variables}
        allowed = tuple(group for group in groups if all(names.get(key, True) is None for key in group))
        if self.config.negate and not allowed:
            raise self._refusal("negate", "no equation is known that allows it for these fields")
        default = self._auto and not self.config.force
        return allowed if (default if self.config.negate is None else self.config.negate) else ()

    def speed(self) -> Floats:
        """(2,) the largest velocity added along y and x."""
        if not self.config.galilean:
            return np.zeros(2)
        if obstacle := galilean_obstacle(self.fields, self.declared):
            raise self._refusal("galilean", obstacle)
        store = self.fields.store
        deviations = dict(zip(keys(store.variables), store.stats.std.tolist(), strict=True))
        return self.config.galilean * np.array([deviations.get(key, 0.0) for key in self.moving])

    @property
    def moving(self) -> tuple[str, str]:
        """Keys of the fields that gain a frame's velocity along y and along x; empty where none does."""
        fields = self.declared.symmetries.galilean if self.declared else {}
        return fields.get("y", ""), fields.get("x", "")

    def scalings(self) -> tuple[Scaling, ...]:
        """The families of scalings that are drawn from."""
        if self.config.scale == 1:
            return ()
        if self.declared is None:
            raise self._refusal("scale", "which equation the data obey is not known: state augment.equation")
        families = self.declared.symmetries.scalings
        obstacles = [scaling_obstacle(self.fields, family, self.declared.names) for family in families]
        allowed = tuple(f for f, obstacle in zip(families, obstacles, strict=True) if not obstacle)
        if not allowed:
            raise self._refusal("scale", "; ".join(obstacles) or "the equation has no scalings")
        return allowed

    @property
    def _auto(self) -> bool:
        """Whether what is not named is used, where grid and variables allow it."""
        stated = self.declared is not None or bool(self.config.force)
        known = stated or self.fields.store.archive not in UNSTATED_FORCES
        return self.config.auto and known

    def _refusal(self, key: str, obstacle: str) -> ConfigError:
        return ConfigError(f"{self.fields.store.label}: augment.{key}: {obstacle}{self._advice}")

    @property
    def _advice(self) -> str:
        """What to say for another form of the equation, where it is stated by its kind and takes other fields."""
        kind = self.config.equation
        if self.declared is None or not isinstance(kind, str) or not kind:
            return ""
        fields, names = {*keys(self.fields.variables), *self.fields.store.params}, {*self.declared.names}
        if names <= fields and {*keys(self.fields.groups[0])} <= names:
            return ""
        return (
            f" (augment.equation={kind} means its form with {', '.join(self.declared.names)}: state the whole"
            f" equation, such as {{kind: {kind}, ...}}, if the data are of another)"
        )


def _reachable(turn: tuple[int, ...], reflected: Sequence[bool], *, turned: bool) -> bool:
    """Whether a turn is made of the reversals that are allowed, and of quarter turns if these are."""
    if turned and not all(reflected):
        # Quarter turns alone keep the plane's sense: an even number of exchanges and reversals.
        return sum(turn) % 2 == 0
    axes = all(allowed or not flag for flag, allowed in zip(turn[1:], reflected, strict=True))
    return axes and (turned or not turn[0])
