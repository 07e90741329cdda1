import torch

from pelagos.models.layers.device_constants import constant

CPU = torch.device("cpu")


def test_a_constant_is_made_once_for_each_device_and_type() -> None:
    area = torch.rand(3)
    assert constant(area, CPU, torch.float64) is constant(area, CPU, torch.float64)
    assert constant(area, CPU, torch.float64).dtype == torch.float64
    assert constant((4, 1), CPU) is constant((4, 1), CPU)
    assert constant((4, 1), torch.device("meta")).device.type == "meta"


def test_flags_are_no_numbers() -> None:
    assert constant((1, 0), CPU).dtype == torch.int64
    assert constant((True, False), CPU).dtype == torch.bool


def test_what_inference_made_first_serves_in_training() -> None:
    with torch.inference_mode():
        weights = constant((3, 5, 7), CPU, torch.float32)
    x = torch.ones(3, requires_grad=True)
    (x * weights).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [3, 5, 7]
