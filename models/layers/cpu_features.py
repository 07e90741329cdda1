"""The processor's instructions, as far as PyTorch tells them: what is fast on one is slow on another."""

from functools import cache
from typing import Any

import torch


@cache
def _capabilities() -> dict[str, Any]:
    told: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return told


def is_amd_with_avx512() -> bool:
    """Whether it is known to be."""
    return "AMD" in _capabilities().get("cpu_name", "") and bool(_capabilities().get("avx512_f"))


def may_have_amx() -> bool:
    """Whether it has Intel's matrix units for bf16, or that is not known."""
    return bool(_capabilities().get("amx_bf16", True))
