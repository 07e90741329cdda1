"""Augmentation: samples of training are transformed by symmetries of their data, each anew, at no cost in frames.

A sample has one transformation in all its frames, static fields and scalars. Which one is drawn by the seed and the
place of its batch in the run, as the order of samples is, so that it does not depend on the number of processes.

Shapes: B samples, K forecast steps, A frames that are input, C channels.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pelagos.preprocessing.array_types import Floats, Ints
from pelagos.preprocessing.physics.symmetry import Scaling
from pelagos.preprocessing.samples.allowed_symmetries import SampleFields
from pelagos.preprocessing.samples.fill_kernels import FlatBuffers
from pelagos.preprocessing.samples.sample_index import SampleFrames
from pelagos.preprocessing.samples.sample_moves import ChannelMoves, SampleMoves, move_samples
from pelagos.preprocessing.variables import keys


@dataclass(frozen=True, eq=False)
class Augmentation:
    """Draws the transformations of one dataset's samples.

    Attributes:
        fields: of the samples.
        spans: numbers of rows and columns by which samples are rolled, from 0 on; 1 for none.
        turns: (G, 3) the turns that are drawn from, see `SampleMoves`.
        rolls: (G, 2) rows and columns that each of them is preceded by, beside those within the spans.
        negations: groups of fields whose signs are reversed together.
        moving: keys of the fields that gain the velocity along y and along x.
        speed: (2,) the largest velocity added along y and x, in the units of the data.
        scalings: the families that are drawn from.
        scale: the largest factor of each.
        by_grid: whether it is allowed by the grid alone, since the equation is not known.
    """

    fields: SampleFields
    spans: tuple[int, int]
    turns: Ints
    rolls: Ints
    negations: tuple[tuple[str, ...], ...]
    moving: tuple[str, str]
    speed: Floats
    scalings: tuple[Scaling, ...]
    scale: float
    by_grid: bool

    def __bool__(self) -> bool:
        return bool(self.names)

    @property
    def names(self) -> tuple[str, ...]:
        """The transformations in words."""
        spans = np.maximum(self.spans, self.rolls.max(axis=0) + 1).tolist()
        names = [f"rolls along {axis}" for axis, span in zip("yx", spans, strict=True) if span > 1]
        transposed, *reversed_ = self.turns.max(axis=0).tolist()
        names += [f"reversals of {axis}" for axis, flag in zip("yx", reversed_, strict=True) if flag]
        names += ["quarter turns"] if transposed else []
        names += [f"negations of {' and '.join(group)}" for group in self.negations]
        names += ["Galilean shifts"] if self.speed.any() else []
        kept = ("time" if family.time else " and ".join(family.powers) for family in self.scalings)
        return (*names, *(f"scalings of {what}" for what in kept))

    @cached_property
    def directions(self) -> Floats:
        """(2, C) 1 where a field gains the velocity along y, and along x."""
        names = [variable.key for variable in self.fields.variables]
        return np.array([[name == axis for name in names] for axis in self.moving], np.float64)

    def describe(self) -> str:
        """The transformations, and what they take for granted, in a line."""
        if not self:
            return "none"
        assumed = (
            "; assumes that nothing acts from outside but the channels, and that no direction is preferred"
            " (augment.auto=false, or state augment.equation, if this is not so)"
        )
        return ", ".join(self.names) + self._slow_frames() + (assumed if self.by_grid else "")

    def _slow_frames(self) -> str:
        """From which lead time on frames move, where that is more than a frame: they move by whole points."""
        store = self.fields.store
        moved = self.speed * store.dt / store.grid.spacing
        if not self.speed.any() or moved.max() >= 1:
            return ""
        return (
            f" (Galilean ones at lead times of {math.ceil(1 / moved.max())} frames or more: by whole points)"
        )

    def draw(self, key: tuple[int, ...], frames: SampleFrames, time_step: float) -> "Transformation":
        """The transformations of the samples of one batch.

        Args:
            key: decides all that is random.
            frames: of the samples.
            time_step: the time from one frame to the next.
        """
        num, families = len(frames.index), len(self.scalings)
        words = np.random.SeedSequence(key).generate_state(
            num * (5 + families + len(self.negations)), np.uint64
        )
        # 53 bits, as a double holds them.
        drawn: Floats = (words >> np.uint64(11)).reshape(num, -1) * np.float64(2.0**-53)
        chosen = (drawn[:, 0] * len(self.turns)).astype(np.int64)
        rolls = self.rolls[chosen] + (drawn[:, 1:3] * self.spans).astype(np.int64)
        shifts, velocity = self._moving(drawn[:, 3:5], frames, time_step)
        factors: Floats = np.float64(self.scale) ** (2 * drawn[:, 5 : 5 + families] - 1)
        signs = np.where(drawn[:, 5 + families :] < 0.5, -1.0, 1.0)
        return Transformation(self, self.turns[chosen], rolls[:, None] + shifts, velocity, factors, signs)

    def _moving(self, drawn: Floats, frames: SampleFrames, time_step: float) -> tuple[Ints, Floats]:
        """(B, K + A, 2) rows and columns by which frames move, and (B, 2) the velocity that they move with."""
        grid = self.fields.store.grid
        elapsed = frames.all_times - frames.times[:, :1]
        if not self.speed.any():
            return np.zeros((*elapsed.shape, 2), np.int64), np.zeros((len(elapsed), 2))
        duration = np.maximum(1, frames.leads)[:, None] * time_step
        # Whole points from frame to frame, so that nothing is interpolated.
        most = np.floor(self.speed * duration / grid.spacing)
        cells = np.floor(drawn * (2 * most + 1)) - most
        senses = [np.sign(values[-1] - values[0]) for values in (grid.y, grid.x)]
        steps = elapsed // np.maximum(1, frames.leads)[:, None]
        # What moves forward comes from points behind.
        return (-steps[:, :, None] * cells[:, None]).astype(
            np.int64
        ), cells * senses * grid.spacing / duration


@dataclass(frozen=True, eq=False)
class Transformation:
    """The transformations that were drawn for B samples.

    Attributes:
        augmentation: what they were drawn from.
        turns: (B, 3) see `SampleMoves`.
        shifts: (B, K + A, 2) see `SampleMoves`, not yet taken around the grid.
        velocity: (B, 2) what is added to the velocity along y and x.
        factors: (B, S) of each family of scalings.
        signs: (B, N) 1 or -1 of each group of negations.
    """

    augmentation: Augmentation
    turns: Ints
    shifts: Ints
    velocity: Floats
    factors: Floats
    signs: Floats

    def apply(self, rows: tuple[int, int], buffers: FlatBuffers) -> None:
        """Transform the fields of a range of the samples, which lie in the buffers in physical units."""
        move_samples(rows, buffers, self.moves)

    @cached_property
    def moves(self) -> SampleMoves:
        """What becomes of the fields."""
        fields = self.augmentation.fields
        transposed, num_prognostic = self.turns[:, :1] == 1, len(fields.groups[0])
        first_forcing = num_prognostic + len(fields.groups[1])
        first_diagnostic = first_forcing + len(fields.groups[2])
        places = np.where(transposed, fields.partners, np.arange(len(fields.variables)))
        # An even number of changes of sign is none.
        signs = 1 - 2 * (self.turns @ fields.parities % 2)
        factors = self.gains(keys(fields.variables))
        # What was added before the components changed places goes with them.
        offsets = signs * np.take_along_axis(
            factors * (self.velocity @ self.augmentation.directions), places, 1
        )
        moves = ChannelMoves(places, (signs * factors).astype(np.float32), offsets.astype(np.float32))
        prognostic, diagnostic = moves.part(0, num_prognostic), moves.part(first_diagnostic, places.shape[1])
        return SampleMoves(
            turns=self.turns,
            shifts=np.mod(self.shifts, fields.store.grid.shape),
            inputs=moves.part(0, first_diagnostic),
            outputs=prognostic.followed_by(diagnostic) if fields.groups[3] else prognostic,
            forcings=moves.part(first_forcing, first_diagnostic),
            width=fields.store.grid.shape[1],
        )

    @property
    def time_factors(self) -> Floats:
        """(B,) factors of lead times."""
        powers = [family.time for family in self.augmentation.scalings]
        return np.asarray(np.prod(self.factors**powers, axis=1))

    def gains(self, names: Sequence[str]) -> Floats:
        """(B, N) factors of fields or scalars by name."""
        families = self.augmentation.scalings
        found = np.ones((len(self.factors), len(names)))
        for family, factor_B in zip(families, self.factors.T, strict=True):
            found *= factor_B[:, None] ** [family.powers.get(name, 0.0) for name in names]
        for group, sign_B in zip(self.augmentation.negations, self.signs.T, strict=True):
            found[:, [name in group for name in names]] *= sign_B[:, None]
        return found
