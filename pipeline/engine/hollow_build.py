"""Hollow build: a network without memory for its weights, which the process gets from rank 0 piece by piece."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def hollow_build() -> Iterator[None]:
    """The context in which networks are built without memory for weights; their buffers are whole.

    Weights become parameters on torch's meta device as soon as a module has them, so that one at a time takes memory.
    """
    register = nn.Module.register_parameter

    def register_hollow(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        register(module, name, parameter)
        # One that several modules share has come by before.
        if parameter is not None and not parameter.is_meta:
            module._parameters[name] = nn.Parameter(parameter.to("meta"), parameter.requires_grad)

    nn.Module.register_parameter = register_hollow  # type: ignore[method-assign, assignment]
    try:
        with warnings.catch_warnings():
            # Torch says of each weight of a model that is loaded that it has no place here, as is meant.
            warnings.filterwarnings("ignore", ".*copying from a non-meta parameter")
            yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]


def on_host(network: nn.Module) -> None:
    """Replace weights on the meta device by zeros on the host, which take the memory of one number each."""
    # A parameter can be given other data only of the same kind of device.
    replaced: dict[nn.Parameter, nn.Parameter] = {}
    for module in network.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None and parameter.is_meta:
                if parameter not in replaced:
                    # One alone would pass for contiguous, and DeepSpeed could not view it as bytes.
                    shape = parameter.shape if parameter.numel() == 1 else ()
                    zeros = torch.zeros(shape, dtype=parameter.dtype).expand(parameter.shape)
                    replaced[parameter] = nn.Parameter(zeros, parameter.requires_grad)
                module._parameters[name] = replaced[parameter]
