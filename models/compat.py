"""The one door for foreign weights: published networks in, and out again.

Each `load_*` takes the reference's constructor arguments and its state dict, and gives the network in eval mode
behind the reference's call: `net(pixel_values, time)` for Poseidon's scOT, `net(x)` for miles-credit's CrossFormer
and FuXi and for Spectral-Refiner's SFNO. Each `save_*` gives arguments and state dict back.
"""

from pelagos.models.compat_credit import load_crossformer, load_fuxi, save_crossformer, save_fuxi
from pelagos.models.compat_scot import load_scot, save_scot
from pelagos.models.compat_sfno import load_sfno, save_sfno

__all__ = [
    "load_crossformer",
    "load_fuxi",
    "load_scot",
    "load_sfno",
    "save_crossformer",
    "save_fuxi",
    "save_scot",
    "save_sfno",
]
