"""Augmentation by configuration: which symmetries of its data a dataset's training samples are transformed by."""

from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, NonNegativeInt, field_validator, model_validator

from pelagos.preprocessing.config import Config
from pelagos.preprocessing.store.sample_store import SampleStore
from pelagos.preprocessing.variables import TensorKind

if TYPE_CHECKING:  # what transforms samples is for training alone
    from pelagos.preprocessing.samples.augmentation import Augmentation


class ForceWave(Config):
    """A wave of a steady force that acts on periodic data and is none of their channels.

    Attributes:
        component: what it is: a vector's component, or the force's curl as it acts on a vorticity.
        waves_y: waves along y in the domain.
        waves_x: waves along x.
        phase: at the first point of the grid [degrees]: the wave is a sine of its phase.
        amplitude: of the wave, relative to the others.
    """

    component: Literal["force_x", "force_y", "vorticity_source"]
    waves_y: int = 0
    waves_x: int = 0
    phase: float = 0.0
    amplitude: float = Field(default=1.0, gt=0)


class AugmentConfig(Config):
    """Symmetries by which samples of training are transformed.

    Attributes:
        auto: whether rolls, reflections and quarter turns are used by default where nothing stands in their way: on
            Cartesian grids that are periodic along both axes (rolls: along their own), and, with negations, where the
            data's equation is known. Otherwise only what is set to true is used.
        roll: rolls by any number of points along periodic axes; along global longitudes where it is set to true.
        reflect: reversals of y and of x, with the signs of vectors and pseudoscalars.
        turn: quarter turns; with `reflect`, the axes are exchanged, too.
        negate: reversed signs of the fields for which the equation allows it.
        jitter: with a positive number, rolls are by fewer points than this, such as the side of a patch.
        galilean: the largest velocity added along each axis, in standard deviations of the velocity, where the
            equation is the same in a moving frame.
        scale: the largest factor of each family of scalings that the equation has; its inverse is the smallest.
        equation: what the data obey, by its kind for the form that the kind has by default, or as a whole, such as
            `{kind: navier_stokes, state: vorticity}`; simulations know theirs. The fields that evolve and the sides of
            the grid have to be its own; scalars, such as a pressure, may go with its fields.
        force: of a steady force that is none of the channels, its waves: only rolls, reflections and turns that leave
            it as it is are used.
        kinds: how fields go with reflections, by name, where their names do not tell: scalar, pseudoscalar, vector_x
            or vector_y.
    """

    auto: bool = True
    roll: bool | None = None
    reflect: bool | None = None
    turn: bool | None = None
    negate: bool | None = None
    jitter: NonNegativeInt = 0
    galilean: float = Field(default=0.0, ge=0)
    scale: float = Field(default=1.0, ge=1)
    equation: str | dict[str, Any] = ""
    force: tuple[ForceWave, ...] = ()
    kinds: dict[str, TensorKind] = Field(default={})

    @model_validator(mode="after")
    def _jitter_rolls(self) -> Self:
        if self.jitter == 1:
            raise ValueError(
                "jitter: rolls by fewer than 1 point are none; take 2 or more, or 0 for any number"
            )
        if self.jitter and self.roll is False:
            raise ValueError(
                f"jitter: {self.jitter} asks for rolls, and roll is false: leave out one of them"
            )
        return self

    @field_validator("equation")
    @classmethod
    def _is_an_equation(cls, stated: str | dict[str, Any]) -> str | dict[str, Any]:
        if isinstance(stated, dict):
            # Loaded where an equation is stated.
            from pelagos.preprocessing.physics.equation import stated_equation

            stated_equation(stated)
        return stated

    def build(self, store: SampleStore) -> "Augmentation":
        """What samples of a store are transformed by.

        Raises:
            ConfigError: something that is asked for is not allowed, or there is no such equation.
        """
        from pelagos.preprocessing.samples.chosen_symmetries import augmentation

        return augmentation(self, store)
