"""Surroundings: what the last bits of a run depend on beside its configuration, and how they changed on resuming."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from pelagos.pipeline.engine import distributed
from pelagos.pipeline.tracking.code_version import code_version


def surroundings() -> dict[str, Any]:
    """Versions of the code and of packages, and what this process computes on."""
    device = distributed.device()
    return {
        **code_version(),
        "processes": distributed.world(),
        # Sums over more threads, or with wider instructions, are added in another order.
        "threads": torch.get_num_threads(),
        "processor": torch.backends.cpu.get_cpu_capability(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
    }


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """How surroundings differ, in words; what one of the two does not record is passed over.

    >>> differences({"threads": 4, "versions": {"torch": "2.7"}}, {"threads": 2, "versions": {"torch": "2.8"}})
    ['threads: 4 then, 2 now', 'torch: 2.7 then, 2.8 now']
    """
    return [f"{name}: {old} then, {new} now" for name, old, new in _changes(then, now)]


def _changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    names = (
        "revision",
        "processes",
        "threads",
        "processor",
        "device",
        "compile",
        "weights",
        "domain",
        "tf32",
    )
    for name in names:
        # Checkpoints of earlier versions record fewer; an installed package has no revision.
        if None not in (old := then.get(name), new := now.get(name)) and old != new:
            yield name, old, new
    before, after = then.get("versions", {}), now.get("versions", {})
    for name in sorted(before.keys() & after.keys()):
        if before[name] != after[name]:
            yield name, before[name], after[name]
