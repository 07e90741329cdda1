"""GPU target: the GPUs that a run is to have, and what is assumed of them and of the machine around them."""

import re
from typing import Literal

import torch
from pydantic import Field, PositiveFloat, PositiveInt

from pelagos.pipeline.cluster.submit import SCRIPTS
from pelagos.preprocessing.config import Config

_PEAKS = {"bf16": 989e12, "TF32": 495e12, "float32": 67e12}
"""Operations per second of dense products on an H100 or H200 (SXM), by NVIDIA's data sheet."""


class GpuTarget(Config):
    """GPUs, of which none has to be there.

    Attributes:
        gpus: their number.
        memory: of each [GB].
        per_node: GPUs of a machine.
        utilisation: the share of the peak that training will reach.
        context: what the CUDA context and the libraries take of each GPU [GB].
        nccl: what NCCL's buffers take, where there are several GPUs [GB].
        fragmentation: what the allocator loses between tensors, as a share of what comes and goes in a step.
        launch: the time between the launches of two kernels [s].
        write_rate: bytes per second that a machine writes to the disk where checkpoints go.
        hash_rate: bytes per second that a process computes a SHA-256 of.
    """

    gpus: PositiveInt
    memory: PositiveFloat = 80.0
    per_node: PositiveInt = 8
    utilisation: float = Field(default=0.35, gt=0, le=1)
    context: float = Field(default=1.0, ge=0)
    nccl: float = Field(default=1.0, ge=0)
    fragmentation: float = Field(default=0.1, ge=0)
    launch: float = Field(default=5e-6, ge=0)
    write_rate: PositiveFloat = 1e9
    hash_rate: PositiveFloat = 1e9

    @property
    def machines(self) -> int:
        """The machines that so many GPUs are in."""
        return -(-self.gpus // self.per_node)

    @property
    def taken(self) -> float:
        """What is gone of each GPU's memory before the first tensor [bytes]."""
        return 1e9 * (self.context + (self.nccl if self.gpus > 1 else 0))

    def fits(self, kept: float, passing: float) -> bool:
        """Whether a GPU holds what is kept and, with gaps, what comes and goes in a step [bytes]."""
        return self.taken + kept + (1 + self.fragmentation) * passing <= 1e9 * self.memory

    def assumptions(self) -> list[str]:
        """What the figures rest on, in words."""
        return [
            f"{self.context:g} GB of each GPU for the CUDA context and libraries"
            + (f", {self.nccl:g} GB for NCCL" if self.gpus > 1 else ""),
            f"gaps between tensors take {100 * self.fragmentation:.0f} % of what comes and goes in a step",
            "attention by PyTorch's memory-efficient kernel, the network not compiled",
            f"a kernel is launched every {1e6 * self.launch:g} µs, where that takes longer than the arithmetic",
            f"machines write {self.write_rate / 1e9:g} GB/s to the checkpoints' disk, and processes hash"
            f" {self.hash_rate / 1e9:g} GB/s",
            "steps wait neither for data nor for other processes",
        ]


Products = Literal["bf16", "TF32", "float32"]


def peak_of(dtype: torch.dtype, *, tf32: bool) -> tuple[Products, float]:
    """How a GPU multiplies, and its most operations per second, of an H100."""
    products: Products = "bf16" if dtype == torch.bfloat16 else "TF32" if tf32 else "float32"
    return products, _PEAKS[products]


def signal_lead(command: str) -> int:
    """How long before its limit the shipped job script has a run asked to stop [s].

    >>> signal_lead("pretrain")
    120
    """
    script = (SCRIPTS / f"{command}.sbatch").read_text(encoding="utf-8")
    found = re.search(r"^#SBATCH --signal=\S*@(\d+)", script, re.MULTILINE)
    assert found, f"{command}.sbatch has no --signal"
    return int(found[1])
