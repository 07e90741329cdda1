"""Reading a reference's arguments, and checking its state dict against them: common to all foreign weights."""

from collections.abc import Mapping
from functools import reduce
from typing import Any, TypeVar

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from pelagos.preprocessing.config import Config
from pelagos.preprocessing.errors import ConfigError, DataError

Arguments = TypeVar("Arguments", bound=Config)
MAX_PROBLEMS_SHOWN = 8
"""A wrong argument may contradict hundreds of weights."""


def read_arguments(kind: type[Arguments], arguments: Mapping[str, Any], source: str) -> Arguments:
    """The reference's constructor arguments, checked; lists stand for tuples.

    Args:
        kind: the configuration that describes the arguments.
        arguments: the arguments as published.
        source: the reference, for messages.

    Raises:
        ConfigError: an argument is unknown or has an unsupported value.
    """
    try:
        return kind(**arguments)
    except ValidationError as error:
        found = "; ".join(
            f"{'.'.join(map(str, e['loc']))} = {e['input']!r}: {e['msg']}" for e in error.errors()
        )
        raise ConfigError(f"unsupported arguments of {source}: {found}") from error


def load_state(network: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Copies a state dict into a network, which may be on the meta device.

    Weights of float64 stay so; those of lower precision become float32.

    Raises:
        DataError: names or shapes do not fit the network, or a value is not finite.
    """
    # Checked here, not by load_state_dict, whose message names neither the source nor values that are not finite.
    own = network.state_dict()
    problems = [f"{name} is missing" for name in own if name not in state]
    problems += [f"{name} is unknown" for name in state if name not in own]
    for name in own.keys() & state.keys():
        found, expected = tuple(state[name].shape), tuple(own[name].shape)
        if found != expected:
            problems.append(f"{name} has shape {found} instead of {expected}")
        elif not torch.isfinite(state[name]).all():
            problems.append(f"{name} has values that are not finite")
    if problems:
        shown, hidden = problems[:MAX_PROBLEMS_SHOWN], len(problems) - MAX_PROBLEMS_SHOWN
        more = f"; and {hidden} more" if hidden > 0 else ""
        raise DataError(f"weights of {source} do not fit its arguments: {'; '.join(shown)}{more}")
    floating = (value.dtype for value in state.values() if value.is_floating_point())
    # One precision for the whole network: mixed weights would fail in the first matrix product.
    dtype = reduce(torch.promote_types, floating, torch.float32)
    copies = {
        name: value.detach().to(dtype if value.is_floating_point() else value.dtype, copy=True)
        for name, value in state.items()
    }
    # Parameters on the meta device have no memory that could be written to.
    network.load_state_dict(copies, assign=True)
