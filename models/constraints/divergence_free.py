"""Divergence-free: flows of an incompressible fluid in a periodic box.

Shapes: B samples, H rows, W columns, K columns of the real transform.
"""

from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor

from pelagos.models.constraints.constrained_dataset import ConstrainedDataset
from pelagos.models.constraints.constraint import Correction, PointWeights
from pelagos.models.constraints.periodic_waves import backward, check_periodic_box, forward, gradient
from pelagos.models.constraints.physical_fields import PhysicalFields
from pelagos.models.layers.device_constants import constant
from pelagos.preprocessing.config import Config


class DivergenceFree(Config):
    """Vector fields lose their gradient part: the nearest field without divergence stays, its mean as it was.

    Whether the fluid is incompressible is for the user to know. Derivatives are those of the waves of the grid.

    Source: Chorin, Numerical solution of the Navier-Stokes equations (Math. Comp. 22, 1968, 745).

    Attributes:
        vectors: pairs of names of components along x and y, in the same units.
    """

    kind: Literal["divergence_free"] = "divergence_free"
    vectors: tuple[tuple[str, str], ...] = Field(default=(("velocity_x", "velocity_y"),), min_length=1)

    @model_validator(mode="after")
    def _two_components(self) -> Self:
        if same := [x for x, y in self.vectors if x == y]:
            raise ValueError(f"vectors: {same[0]} is named as both components of one")
        return self

    @property
    def needs(self) -> tuple[str, ...]:
        """The fields without one of which a dataset has nothing to constrain."""
        return tuple(name for pair in self.vectors for name in pair)

    def build(self, dataset: ConstrainedDataset) -> Correction:
        """The correction for a dataset, which has some of the variables.

        Raises:
            ConfigError: the grid is no periodic box, or a vector lacks a component.
        """
        check_periodic_box(dataset, self.kind)
        grid = dataset.layout.grid
        pairs = dataset.vectors(self.vectors, self.kind)
        # Rows and columns in the archive's order, so that a descending axis has a negative step.
        ky_H1, kx_1K = gradient(grid.shape, (_step(grid.y), _step(grid.x)))
        square_HK = ky_H1.square() + kx_1K.square()

        def correct(
            before: PhysicalFields, after: PhysicalFields, duration_B: Tensor, weights: PointWeights
        ) -> None:
            ky, kx, square = (constant(k, after.device, k.dtype) for k in (ky_H1, kx_1K, square_HK))
            for x, y in pairs:
                # In the units of one component, so that both are added like by like.
                x_BHK, y_BHK = forward(after.read(x)), forward(after.read(y, x.variable.units))
                potential_BHK = (kx * x_BHK + ky * y_BHK) / square.where(square > 0, 1.0)
                after.write(x, backward(x_BHK - kx * potential_BHK, grid.shape))
                after.write(y, backward(y_BHK - ky * potential_BHK, grid.shape), x.variable.units)

        return correct


def _step(axis: NDArray[np.float64]) -> float:
    """The signed distance of neighbours; of a single point, along which nothing varies, any."""
    return float(axis[1] - axis[0]) if len(axis) > 1 else 1.0
