"""Import and export of published weights, gathered from all families of networks.

Each `load_*` takes the reference's constructor arguments and its state dict, and returns the network in evaluation
mode with the reference's call: `net(pixel_values, time)` for Poseidon's scOT, `net(x)` for miles-credit's
CrossFormer and FuXi and for Spectral-Refiner's SFNO. Each `save_*` returns arguments and state dict.
"""

from pelagos.models.networks.credit.compat import (
    as_credit_network,
    load_crossformer,
    load_fuxi,
    save_crossformer,
    save_fuxi,
)
from pelagos.models.networks.fourier.compat import load_sfno, save_sfno
from pelagos.models.networks.scot.compat import load_scot, save_scot

__all__ = [
    "as_credit_network",
    "load_crossformer",
    "load_fuxi",
    "load_scot",
    "load_sfno",
    "save_crossformer",
    "save_fuxi",
    "save_scot",
    "save_sfno",
]
