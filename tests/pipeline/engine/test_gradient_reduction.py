"""Gradients averaged in buckets during the backward pass are the means that they are after it."""

import json
from pathlib import Path
from typing import Any

import processes
import pytest
import torch
from torch import Tensor, nn

from pelagos.pipeline.engine import distributed
from pelagos.pipeline.engine.gradient_reduction import GradientReduction, ReductionError
from pelagos.pipeline.engine.parameter_packing import ParameterPacking

WORLD, LARGEST = 3, 40


class Branched(nn.Module):
    """Layers in a row, and one that only some processes use."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList(nn.Linear(6, 6) for _ in range(4))
        self.branch = nn.Linear(6, 6)

    def forward(self, x: Tensor, branch: bool) -> Tensor:
        """(B, 6) to a scalar."""
        for layer in self.layers:
            x = layer(x).tanh()
        return (x + self.branch(x) if branch else x).square().sum()


def packed(network: nn.Module) -> ParameterPacking:
    weights = [p for p in network.parameters() if p.ndim > 1]
    biases = [p for p in network.parameters() if p.ndim == 1]
    packing = ParameterPacking(network, [{"params": weights}, {"params": biases}])
    packing.link()
    packing.link_gradients()
    return packing


def gradients(case: dict[str, Any], rank: int) -> tuple[list[Tensor], int, float]:
    """Of two micro-batches: this process's vectors, buckets under way at the end of the last pass, and the norm."""
    network = Branched()
    packing = packed(network)
    sizes = [-(-len(vector) // WORLD) for vector in packing.gradients]
    shares = sizes if case["shared"] else None
    dtype = torch.bfloat16 if case["half"] else torch.float32
    reduction = GradientReduction(packing, shares, dtype, largest=LARGEST)
    for number in range(2):
        if case["overlap"] and number == 1:
            reduction.arm()
        x = torch.randn(4, 6, generator=torch.Generator().manual_seed(2 * rank + number))
        network(x, rank == 1).backward()
    launched = reduction.launched
    reduction.finish()
    norm = float(reduction.norm())
    if shares is None:
        return packing.gradients, launched, norm
    return (
        [v[rank * n : (rank + 1) * n] for v, n in zip(packing.gradients, sizes, strict=True)],
        launched,
        norm,
    )


def program(folder: str) -> None:
    """What each process gets in every case."""
    distributed.start()
    rank, found = distributed.rank(), []
    for case in cases():
        vectors, launched, norm = gradients(case, rank)
        found.append({"vectors": [v.tolist() for v in vectors], "launched": launched, "norm": norm})
    Path(folder, f"{rank}.json").write_text(json.dumps(found))
    distributed.stop()


def cases() -> list[dict[str, Any]]:
    return [
        {"shared": shared, "half": half, "overlap": overlap}
        for shared in (False, True)
        for half in (False, True)
        for overlap in (True, False)
    ]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[list[dict[str, Any]]]:
    """By case, what the processes found."""
    folder = tmp_path_factory.mktemp("reduction")
    processes.run(Path(__file__), "program", WORLD, {"folder": str(folder)})
    return list(zip(*(json.loads((folder / f"{r}.json").read_text()) for r in range(WORLD)), strict=True))  # type: ignore[arg-type]  # lists of each process


def means() -> list[Tensor]:
    """The vectors of one process that takes all micro-batches, in float64."""
    network = Branched().double()
    packing = packed(network)
    for rank in range(WORLD):
        for number in range(2):
            x = torch.randn(4, 6, generator=torch.Generator().manual_seed(2 * rank + number))
            (network(x.double(), rank == 1) / WORLD).backward()
    return packing.gradients


@pytest.mark.parametrize("number", range(8))
def test_the_mean_of_all_processes_arrives_where_it_is_needed(
    found: list[list[dict[str, Any]]], number: int
) -> None:
    case, wanted = cases()[number], means()
    rtol, atol = (2e-2, 2e-2) if case["half"] else (1e-5, 1e-6)
    norm = float(torch.nn.utils.get_total_norm(wanted))
    for rank, mine in enumerate(found[number]):
        assert mine["norm"] == pytest.approx(norm, rel=1e-2 if case["half"] else 1e-5)
        for got, vector in zip(mine["vectors"], wanted, strict=True):
            size = -(-len(vector) // WORLD)
            part = vector[rank * size : (rank + 1) * size] if case["shared"] else vector
            torch.testing.assert_close(torch.tensor(got, dtype=torch.float64), part, rtol=rtol, atol=atol)


@pytest.mark.parametrize("number", range(0, 8, 2))
def test_averaging_during_the_pass_changes_no_bit(found: list[list[dict[str, Any]]], number: int) -> None:
    for early, late in zip(found[number], found[number + 1], strict=True):
        assert early["vectors"] == late["vectors"]
        assert early["norm"] == late["norm"]


def test_buckets_are_under_way_before_the_pass_ends(found: list[list[dict[str, Any]]]) -> None:
    # A weight of the branch is the first that a pass comes to: where it is not used, its bucket holds up all.
    launched = [mine["launched"] for mine in found[0]]
    assert launched[1] > 4
    assert launched[0] == launched[2] == 0
    assert all(mine["launched"] == 0 for mine in found[1])


def test_a_gradient_that_comes_after_its_bucket_is_refused() -> None:
    distributed.start()
    network = Branched()
    reduction = GradientReduction(packed(network), None, torch.float32, largest=LARGEST)
    reduction.arm()
    x = torch.ones(1, 6)
    network(x, True).backward()
    assert reduction.launched > 0
    with pytest.raises(ReductionError, match=r"twice in one backward pass.*engine\.overlap=false"):
        network(x, True).backward()
