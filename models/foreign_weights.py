"""What all loaders of foreign weights do: read the reference's arguments, check its state dict against them."""

from collections.abc import Mapping
from functools import reduce
from typing import Any, TypeVar

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from pelagos.preprocessing.config import Config
from pelagos.preprocessing.errors import ConfigError, DataError

Arguments = TypeVar("Arguments", bound=Config)
SHOWN = 8


def read_arguments(kind: type[Arguments], arguments: Mapping[str, Any], source: str) -> Arguments:
    """The reference's constructor arguments; lists stand for tuples.

    Raises:
        ConfigError: one of them is unknown or cannot be served.
    """
    try:
        return kind(**arguments)
    except ValidationError as error:
        found = "; ".join(
            f"{'.'.join(map(str, e['loc']))} = {e['input']!r}: {e['msg']}" for e in error.errors()
        )
        raise ConfigError(f"arguments of {source} cannot be served: {found}") from error


def load_state(network: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Copy a state dict into a network that may be on the meta device; float64 stays, lower is raised to float32.

    Raises:
        DataError: names or shapes do not fit, or a value is not finite.
    """
    own = network.state_dict()
    problems = [f"{name} is missing" for name in own if name not in state]
    problems += [f"{name} is unknown" for name in state if name not in own]
    for name in own.keys() & state.keys():
        found, expected = tuple(state[name].shape), tuple(own[name].shape)
        if found != expected:
            problems.append(f"{name} has the shape {found} instead of {expected}")
        elif not torch.isfinite(state[name]).all():
            problems.append(f"{name} has values that are not finite")
    if problems:
        more = f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise DataError(f"weights of {source} do not fit its arguments: {'; '.join(problems[:SHOWN])}{more}")
    floating = (value.dtype for value in state.values() if value.is_floating_point())
    dtype = reduce(torch.promote_types, floating, torch.float32)
    copies = {
        name: value.detach().to(dtype if value.is_floating_point() else value.dtype, copy=True)
        for name, value in state.items()
    }
    network.load_state_dict(copies, assign=True)
