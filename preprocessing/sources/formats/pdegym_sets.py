"""The twenty sets of PDEGym (Herde et al. 2024, arXiv:2405.19101): what their files do not say.

Array names, channels and frame spacings follow the dataset cards and loaders of camlab-ethz. The cards call the last
two axes x and y throughout, yet the loader exchanges them for one set: what the loader makes of them counts as (y, x)
here, so that fields lie as Poseidon's networks saw them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pelagos.preprocessing.grid import Boundary

PDEGymAxes = Literal["yx", "xy"]


@dataclass(frozen=True)
class PDEGymSet:
    """How one set is stored.

    Attributes:
        key: name of the array of the solution.
        channels: variables in the order of its channels.
        optional: how many of the last channels may be absent.
        static: variables of the further arrays, by array name.
        dt: time between frames; by default of 21 frames from time 0 to 1.
        boundary: on all sides; "unknown" where cards and loaders do not say.
        axes: order of the last two axes.
        pressure_offset: what Poseidon subtracts from the pressure before its shared normalisation.
    """

    key: str
    channels: tuple[str, ...]
    optional: int = 0
    static: Mapping[str, str] = field(default_factory=dict)
    dt: float = 1 / 20
    boundary: Boundary = "unknown"
    axes: PDEGymAxes = "yx"
    pressure_offset: float = 0.0


FLOW_FIELDS = ("velocity_x", "velocity_y", "tracer")
_GAS = ("density", "velocity_x", "velocity_y", "pressure")
_NAVIER_STOKES = PDEGymSet("velocity", FLOW_FIELDS, optional=1, boundary="periodic")


def _euler(offset: float) -> PDEGymSet:
    return PDEGymSet("data", (*_GAS, "energy"), optional=1, boundary="periodic", pressure_offset=offset)


def _wave(frames: int) -> PDEGymSet:
    return PDEGymSet(
        "solution", ("displacement",), static={"c": "wave_speed"}, dt=1 / frames, boundary="open"
    )


SETS: dict[str, PDEGymSet] = {
    "NS-Sines": _NAVIER_STOKES,
    "NS-Gauss": _NAVIER_STOKES,
    "NS-PwC": _NAVIER_STOKES,
    "NS-SVS": _NAVIER_STOKES,
    "NS-BB": _NAVIER_STOKES,
    # Poseidon's loader exchanges the two last axes (not the components) of this set alone.
    "NS-SL": PDEGymSet("velocity", FLOW_FIELDS[:2], boundary="periodic", axes="xy"),
    "FNS-KF": PDEGymSet("solution", FLOW_FIELDS[:2], boundary="periodic"),
    "CE-RP": _euler(0.215),
    "CE-CRP": _euler(0.553),
    "CE-KH": _euler(1.0),
    "CE-Gauss": _euler(2.513),
    "CE-RPUI": _euler(1.33),
    "CE-RM": PDEGymSet("solution", (*_GAS, "tracer"), optional=1, dt=2 / 20),
    "GCE-RT": PDEGymSet("solution", (*_GAS, "tracer", "potential"), dt=5 / 10),
    "Wave-Layer": _wave(20),
    "Wave-Gauss": _wave(15),
    "ACE": PDEGymSet("solution", ("phase",), dt=2e-4 / 19),
    "SE-AF": PDEGymSet("solution", ("geometry", "density")),
    "Poisson-Gauss": PDEGymSet("solution", ("solution",), static={"source": "source"}, boundary="wall"),
    "Helmholtz": PDEGymSet("u", ("solution",), static={"a": "coefficient"}, boundary="wall"),
}
"""The twenty sets of PDEGym."""

SPECIAL_SETS = ("FNS-KF", "SE-AF", "Helmholtz")
"""Sets whose files differ in layout, or lack a field that Poseidon computes."""
