"""The processor's instruction sets, as far as they are reported: what is fast on one is slow on another."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import torch


@cache
def _capabilities() -> dict[str, Any]:
    # Older versions of PyTorch do not report them: nothing is known then.
    reported: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return reported


@cache
def _family() -> int:
    """The processor's family as Linux knows it; 0 where that is not said."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return 0
    found = re.search(r"^cpu family\s*: (\d+)$", text, re.MULTILINE)
    return int(found[1]) if found else 0


ZEN_5 = 26
"""The first family of AMD's whose units are 512 bits wide; Zen 4 (family 25) does AVX-512 in two halves."""


def is_amd_with_wide_avx512() -> bool:
    """Whether this is an AMD processor that computes 512 bits at a time, as far as PyTorch and Linux tell."""
    reported = _capabilities()
    return "AMD" in reported.get("cpu_name", "") and bool(reported.get("avx512_f")) and _family() >= ZEN_5


def may_have_amx() -> bool:
    """Whether the processor has AMX, Intel's matrix units for bf16, or PyTorch does not report it."""
    return bool(_capabilities().get("amx_bf16", True))
