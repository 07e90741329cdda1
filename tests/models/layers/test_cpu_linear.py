"""Products are PyTorch's own to rounding, whichever library computes them."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from pelagos.models.layers import cpu_features, cpu_linear

is_faster = cpu_linear.onednn_is_faster
"""Before tests replace it."""


@pytest.fixture(autouse=True)
def onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever processor the tests run on."""
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        pytest.skip("this PyTorch has no oneDNN")
    monkeypatch.setattr(cpu_linear, "onednn_is_faster", lambda: True)


def results(function: object, *inputs: Tensor) -> list[Tensor]:
    """The output, and the gradients of its squares' sum."""
    leaves = [tensor.detach().clone().requires_grad_() for tensor in inputs]
    out = function(*leaves)  # type: ignore[operator]
    out.square().sum().backward()
    return [out.detach(), *(leaf.grad for leaf in leaves)]


@pytest.mark.parametrize("dims", [(8, 40), (40, 8), (24, 24)])
@pytest.mark.parametrize("rows", [(1,), (3, 5), (2, 4, 30)])
@pytest.mark.parametrize("bias", [True, False])
def test_outputs_and_gradients_are_those_of_pytorch(
    dims: tuple[int, int], rows: tuple[int, ...], bias: bool
) -> None:
    torch.manual_seed(0)
    inputs = [torch.randn(*rows, dims[0]), torch.randn(dims[::-1]), *([torch.randn(dims[1])] if bias else [])]
    assert_close(results(cpu_linear.fast_linear, *inputs), results(F.linear, *inputs), rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        assert_close(cpu_linear.fast_linear(*inputs), F.linear(*inputs), rtol=1e-5, atol=1e-5)


def test_tensors_that_are_not_contiguous_are_served() -> None:
    x_ND, weight_ED = torch.randn(12, 7).t(), torch.randn(12, 5).t()
    assert_close(results(cpu_linear.fast_linear, x_ND, weight_ED), results(F.linear, x_ND, weight_ED))


def test_other_precisions_are_left_to_pytorch() -> None:
    x_ND, weight_ED = torch.randn(4, 6), torch.randn(5, 6)
    exact = cpu_linear.fast_linear(x_ND.double(), weight_ED.double())
    assert_close(exact, F.linear(x_ND.double(), weight_ED.double()), rtol=0, atol=0)
    with torch.autocast("cpu", torch.bfloat16):
        assert cpu_linear.fast_linear(x_ND, weight_ED).dtype == torch.bfloat16


def test_operations_are_counted() -> None:
    x_ND, weight_ED = torch.randn(12, 7), torch.randn(5, 7)
    with FlopCounterMode(display=False) as forward, torch.no_grad():
        cpu_linear.fast_linear(x_ND, weight_ED)
    assert forward.get_total_flops() == 2 * 12 * 7 * 5
    with FlopCounterMode(display=False) as both:
        results(cpu_linear.fast_linear, x_ND, weight_ED)
    assert both.get_total_flops() == 3 * 2 * 12 * 7 * 5


@pytest.mark.parametrize(
    ("told", "has_operator", "expected"),
    [
        ({"cpu_name": "AMD EPYC", "avx512_f": True}, True, True),
        ({"cpu_name": "AMD EPYC", "avx512_f": True}, False, False),
        ({"cpu_name": "AMD EPYC", "avx512_f": False}, True, False),
        ({"cpu_name": "Intel Xeon", "avx512_f": True}, True, False),
        ({}, True, False),
    ],
)
def test_onednn_is_used_only_where_processor_and_operator_are_known(
    monkeypatch: pytest.MonkeyPatch, told: dict[str, object], has_operator: bool, expected: bool
) -> None:
    monkeypatch.setattr(cpu_features, "_capabilities", lambda: told)
    monkeypatch.setattr(cpu_features, "_family", lambda: cpu_features.ZEN_5)
    operators = {"_linear_pointwise": None} if has_operator else {}
    monkeypatch.setattr(torch.ops, "mkldnn", SimpleNamespace(**operators))
    assert is_faster.__wrapped__() is expected


def test_products_are_pytorchs_where_onednn_does_not_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_linear, "onednn_is_faster", lambda: False)
    monkeypatch.setattr(cpu_linear, "_onednn_linear", lambda *_: pytest.fail("oneDNN was called"))
    inputs = [torch.randn(4, 6), torch.randn(5, 6), torch.randn(5)]
    assert_close(results(cpu_linear.fast_linear, *inputs), results(F.linear, *inputs), rtol=0, atol=0)
