"""The one door for foreign weights: published networks in, and out again.

Each `load_*` takes the reference's constructor arguments and its state dict, and gives the network in eval mode
behind the reference's call: `net(pixel_values, time)` for Poseidon's scOT, `net(x)` for miles-credit's CrossFormer
and FuXi and for Spectral-Refiner's SFNO. Each `save_*` gives arguments and state dict back.
"""

from pelagos.models.networks.credit.compat import load_crossformer, load_fuxi, save_crossformer, save_fuxi
from pelagos.models.networks.fourier.compat import load_sfno, save_sfno
from pelagos.models.networks.scot.compat import load_scot, save_scot

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
