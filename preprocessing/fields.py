"""Fields: what a store takes from a dataset in the one convention, and in which form.

Shapes: N trajectories, T times, C channels, H rows, W columns.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Annotated, Any, Literal

import dask
import numpy as np
import xarray as xr
from numpy.typing import NDArray
from pydantic import Field

from pelagos.preprocessing.coarsen import coarsen, coarsen_axis
from pelagos.preprocessing.config import Config
from pelagos.preprocessing.errors import ConfigError, DamagedFileError, DataError, PelagosError
from pelagos.preprocessing.forcing import FORCINGS, ForcingName
from pelagos.preprocessing.grid import Grid, Sides
from pelagos.preprocessing.rounding import round_mantissa
from pelagos.preprocessing.split import Range, resolve
from pelagos.preprocessing.variables import Role, Variable, keys, known
