"""The processor's instruction sets, as far as PyTorch reports them: what is fast on one is slow on another."""

from functools import cache
from typing import Any

import torch


@cache
def _capabilities() -> dict[str, Any]:
    # Older versions of PyTorch do not report them: nothing is known then.
    reported: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return reported


def is_amd_with_avx512() -> bool:
    """Whether PyTorch reports an AMD processor with AVX-512."""
    return "AMD" in _capabilities().get("cpu_name", "") and bool(_capabilities().get("avx512_f"))


def may_have_amx() -> bool:
    """Whether the processor has AMX, Intel's matrix units for bf16, or PyTorch does not report it."""
    return bool(_capabilities().get("amx_bf16", True))
