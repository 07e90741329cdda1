"""How fast the networks are, and how much memory they need, beside the packages people use: `make bench-networks`.

scOT at Poseidon-T's sizes against transformers' Swin V2, and WXFormer against miles-credit's own class with
the same arguments and weights.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.harness import Call, heading, in_fresh_process, interleave, line, peak_mebibytes
from benchmarks.network_peers import TransformersScOT, credit_crossformer
from pelagos.models.context import Signature
from pelagos.models.networks.credit.compat import load_crossformer
from pelagos.models.networks.scot.scot import ScOTConfig

SIDE, VARIABLES = 128, ("density", "velocity_x", "velocity_y", "pressure")
WXFORMER: dict[str, Any] = {
    "image_height": 64,
    "image_width": 128,
    "frames": 1,
    "channels": 4,
    "surface_channels": 7,
    "input_only_channels": 3,
    "levels": 15,
    "dim": (64, 128, 256, 512),
    "depth": (2, 2, 8, 2),
    "global_window_size": (8, 4, 4, 2),
    "local_window_size": 4,
    "cross_embed_strides": (2, 2, 2, 2),
}
NUM_FIELDS = 4 * 15 + 7 + 3
PEER = "peer"
AGREE = 1e-4
"""How far outputs in float32 may be apart, in units of their deviation."""


@dataclass(frozen=True)
class Subject:
    """A network and what it is called with."""

    network: nn.Module
    inputs: tuple[Tensor, ...]

    def call(self, training: bool, bf16: bool) -> Call:
        """One forward pass, with the backward pass if training; bf16 is autocast."""
        self.network.train(training)
        return partial(self.train if training else self.predict, bf16)

    def train(self, bf16: bool = False) -> None:
        self.network.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            out = self.network(*self.inputs)
        out.float().square().mean().backward()

    @torch.no_grad()
    def predict(self, bf16: bool = False) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            out: Tensor = self.network(*self.inputs)
        return out


def scot(preset: str, batch: int) -> Subject:
    fields, lead_times = torch.randn(batch, len(VARIABLES), SIDE, SIDE), torch.rand(batch)
    if preset == PEER:
        return Subject(TransformersScOT(ScOTConfig(), len(VARIABLES), SIDE), (fields,))
    signature = Signature(VARIABLES, VARIABLES, shape=(SIDE, SIDE))
    return Subject(ScOTConfig.model_validate({"preset": preset}).build(signature), (fields, lead_times))


def wxformer(package: str, batch: int) -> Subject:
    fields = torch.randn(batch, NUM_FIELDS, 1, WXFORMER["image_height"], WXFORMER["image_width"])
    peer = credit_crossformer(WXFORMER)
    if package == PEER:
        return Subject(peer, (fields,))
    return Subject(load_crossformer(WXFORMER, peer.state_dict()), (fields,))


SUBJECTS: dict[str, Callable[[str, int], Subject]] = {"scot": scot, "wxformer": wxformer}
ALTERNATIVES = {"scot": ("poseidon", "pelagos"), "wxformer": ("pelagos",)}


def check_wxformer() -> None:
    """Both networks must be one function before their speed is compared."""
    torch.manual_seed(0)
    theirs = wxformer(PEER, 1)
    ours = load_crossformer(WXFORMER, theirs.network.state_dict())
    for network in (ours, theirs.network):
        network.eval()
    expected = theirs.predict()
    error = (Subject(ours, theirs.inputs).predict() - expected).abs().max() / expected.std()
    assert error < AGREE, f"outputs differ by {error:.1e} of their deviation"


def rows(rounds: int) -> Iterator[tuple[object, ...]]:
    """For each network, batch and pass: times, ratios, and peak memory."""
    for family, batch, training in product(SUBJECTS, (1, 4), (False, True)):
        torch.manual_seed(0)
        subjects = {name: SUBJECTS[family](name, batch) for name in (PEER, *ALTERNATIVES[family])}
        calls = {
            f"{name} {bf16}": subject.call(training, bf16)
            for bf16, (name, subject) in product((False, True), subjects.items())
        }
        times = interleave(calls, rounds)
        memory = {
            f"{name} {bf16}": measure_memory(family, name, bf16, batch, training)
            for bf16, name in product((False, True), subjects)
        }
        base = f"{PEER} {False}"
        for name in ALTERNATIVES[family]:
            exact, fast = f"{name} {False}", f"{name} {True}"
            yield (
                f"{family}, {name}",
                batch,
                "forward + backward" if training else "forward",
                *(f"{times.milliseconds(call):.0f}" for call in (base, f"{PEER} {True}", exact, fast)),
                times.ratio(base, exact),
                times.ratio(base, fast),
                *(f"{memory[call]:.0f}" for call in (base, exact, fast)),
            )


def measure_memory(family: str, name: str, bf16: bool, batch: int, training: bool) -> float:
    """Peak memory of a process that does nothing else [MiB]."""
    case = json.dumps([family, name, bf16, batch, training])
    return in_fresh_process("benchmarks.networks", ["--memory-of", case])


HEADER = (
    "network",
    "batch",
    "pass",
    "peer, float32 [ms]",
    "peer, bf16 [ms]",
    "float32 [ms]",
    "bf16 [ms]",
    "peer float32 / float32",
    "peer float32 / bf16",
    "peak of peer [MiB]",
    "float32 [MiB]",
    "bf16 [MiB]",
)


def main() -> None:
    """Print the table, or what one process needs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--memory-of", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.memory_of:
        family, name, bf16, batch, training = options.memory_of
        print(peak_mebibytes(lambda: SUBJECTS[family](name, batch).call(training, bf16)))
        return
    check_wxformer()
    print(f"PyTorch {torch.__version__}, threads: {options.threads}, rounds: {options.rounds}\n")
    print(heading(HEADER))
    for row in rows(options.rounds):
        print(line(row), flush=True)


if __name__ == "__main__":
    main()
