from typing import Any

import torch
from torch import Tensor, nn

from pelagos.models.context import Context, Signature
from pelagos.models.networks.fourier.sfno import SFNO, Form, SFNOConfig
from tests.models.advection import SIGNATURE, TORUS, error_against_persistence
from tests.models.contracts import NetworkContract

SMALL: dict[str, Any] = {"width": 8, "modes": (4, 4, 2), "latent_steps": 4, "num_layers": 2}


class TestSFNO(NetworkContract):
    sizes = ((16, 16), (13, 22), (3, 5))
    checkpointing = True
    any_variables = True

    def build(self, signature: Signature, **options: Any) -> nn.Module:
        return SFNOConfig(**SMALL, **options).build(signature)


def test_training_on_advection_beats_persistence() -> None:
    torch.manual_seed(0)
    net = SFNOConfig(**SMALL).build(SIGNATURE)
    assert error_against_persistence(net, steps=30, learning_rate=1e-2) < 0.5


def test_edges_that_do_not_wrap_are_kept_apart() -> None:
    torch.manual_seed(0)
    net, time_B = SFNOConfig(**SMALL).build(SIGNATURE).double(), torch.ones(1, dtype=torch.float64)
    x_BCHW, walls = torch.randn(1, 1, 16, 16, dtype=torch.float64), Context(periodic=(False, True))
    assert (net(x_BCHW, time_B, walls) - net(x_BCHW, time_B, TORUS)).abs().max() > 1e-3
    assert net(x_BCHW, time_B, walls).shape == x_BCHW.shape


def body(form: Form) -> SFNO:
    torch.manual_seed(0)
    net = SFNO(
        1,
        1,
        width=8,
        modes=(4, 4, 3),
        latent_steps=8,
        num_layers=3,
        expansion=2,
        activation="GELU",
        beta=-1e-2,
        delta=0.1,
        form=form,
    ).double()
    # Offsets that count as much in either form on a grid of 16 x 16 points and 2 (8 + 1) steps.
    for bias in net.output_operator.conv.bias:
        nn.init.normal_(bias, std=1.0 if form == "pelagos" else 16 * 16 * 18)
    return net


FORMS: tuple[tuple[Form, bool], ...] = (("pelagos", True), ("reference", False))
"""Each form, and whether it keeps its results on other grids and at other numbers of steps."""


def change(form: Form, size: int, num_steps: int) -> Tensor:
    """(size, size, num_steps): what the network adds to the last of three frames of low waves."""
    x = torch.arange(size, dtype=torch.float64) * 2 * torch.pi / size
    field_XY = 1 + x.cos()[:, None] + (2 * x).sin()
    v_BCXYT = torch.stack([field_XY, 2 * field_XY, 3 * field_XY], -1)[None, None]
    times_BT = torch.tensor([[0.01, 0.02, 0.03]], dtype=torch.float64)
    with torch.no_grad():
        out: Tensor = body(form)(v_BCXYT, v_BCXYT[..., -1], times_BT, num_steps)
    return out[0, 0] - 3 * field_XY[..., None]


def rms(values: Tensor) -> float:
    return float(values.square().mean().sqrt())


def test_forecasts_are_the_same_on_a_finer_grid() -> None:
    """Up to the waves that the activations make beyond the coarse grid's; the reference form is far off."""
    for form, close in FORMS:
        coarse, fine = change(form, 16, 8), change(form, 48, 8)
        error = rms(fine[::3, ::3] - coarse) / rms(coarse)
        assert (error < 1e-3) == close, (form, error)
        assert close or error > 0.1


def test_forecasts_are_the_same_at_more_steps() -> None:
    """Of a trajectory cut into four times as many steps every fourth is a step of the shorter one.

    Frames are counted from the padded start, so j of n + 1 steps lies at (n + 1 + j) / (2n + 2).
    """
    for form, close in FORMS:
        few, many = change(form, 16, 8), change(form, 16, 35)
        error = rms(many[..., 3::4] - few) / rms(few)
        assert (error < 1e-10) == close, (form, error)


def test_amplitude_does_not_fade_with_the_number_of_steps() -> None:
    ratios = {form: rms(change(form, 16, 32)) / rms(change(form, 16, 4)) for form in ("pelagos", "reference")}
    assert 0.8 < ratios["pelagos"] < 1.25
    assert ratios["reference"] < 0.6
