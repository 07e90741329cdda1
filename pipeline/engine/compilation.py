"""Compilation: torch.compile of a network or its blocks, in place, so that weights keep their names; and TF32."""

from typing import Literal

import torch
from torch import nn

from pelagos.models.layers.network_layers import repeated_blocks
from pelagos.preprocessing.errors import ConfigError

Compiled = Literal["off", "blocks", "network"]
SHAPES = 8
"""Shapes of inputs that a module is compiled for; with more, PyTorch says so and computes the others as without."""


def check_compiler(device: str) -> None:
    """Raise an error where torch.compile would find no compiler for a type of device.

    Raises:
        ConfigError: there is none.
    """
    if device != "cpu":
        from torch.utils._triton import has_triton  # asks the driver

        if not has_triton():
            raise ConfigError(
                "engine.compile needs Triton on a GPU, and found none that works: pip install triton"
            )
        return
    from torch._inductor.cpp_builder import (
        get_cpp_compiler,  # imports the compiler's front end, which takes a second
    )
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler as error:
        raise ConfigError(
            "engine.compile needs a C++ compiler on the CPU, and found none: install g++ or clang, or name one in CXX"
        ) from error


def compile_parts(network: nn.Module, compiled: Compiled) -> None:
    """Have a network, or each of the blocks that it repeats, compiled at its next call."""
    parts = {"off": [], "network": [network], "blocks": list(repeated_blocks(network))}[compiled]
    for part in parts:
        # Sizes are constants: what networks work out of them (windows, masks) then costs nothing. Draws are as without.
        part.compile(dynamic=False, options={"fallback_random": True})
    if parts:
        # PyTorch counts the versions of all modules together, since one function of its own calls them, and stops at 8.
        limits, most = torch._dynamo.config, SHAPES * len(parts)
        limits.recompile_limit = max(limits.recompile_limit, most)
        limits.accumulated_recompile_limit = max(limits.accumulated_recompile_limit, most)


def allow_tf32(allowed: bool) -> None:
    """Let GPUs round the factors of matrix products and convolutions in float32 to TF32, or not."""
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed
