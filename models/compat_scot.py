"""Weights of Poseidon's scOT, in and out: the reference's arguments and state dict, unchanged."""

from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from pelagos.models.context import Signature
from pelagos.models.scot import POSEIDON, Rules, ScOT, ScOTConfig
from pelagos.preprocessing.config import Config
from pelagos.preprocessing.errors import ConfigError, DataError
