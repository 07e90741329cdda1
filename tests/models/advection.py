"""A problem whose answer is known: random waves on a torus, carried along by a steady wind."""

import math

import torch
from torch import Tensor, nn

from pelagos.models.context import Context, Signature

SIGNATURE = Signature(inputs=("tracer",), outputs=("tracer",))
TORUS = Context(periodic=(True, True))
WIND = (1.0, 2.0)
SIZE = 16


def waves(count: int, generator: torch.Generator) -> Tensor:
    """(count, 1, SIZE, SIZE): random amplitudes of the lowest waves, as spectra."""
    field_BCHW = torch.randn(count, 1, SIZE, SIZE, generator=generator)
    spectrum = torch.fft.fft2(field_BCHW)
    low = torch.fft.fftfreq(SIZE, 1 / SIZE).abs() <= 3
    filtered: Tensor = spectrum * low * low[:, None] * SIZE / 7
    return filtered


def carried(spectrum: Tensor, time_B: Tensor) -> Tensor:
    """The field after being carried for some time, WIND cells a unit of time."""
    k = torch.fft.fftfreq(SIZE, 1.0)
    phase = 2 * math.pi * (k[:, None] * WIND[0] + k * WIND[1])
    field_BCHW: Tensor = torch.fft.ifft2(spectrum * torch.exp(-1j * phase * time_B[:, None, None, None])).real
    return field_BCHW


def error_against_persistence(net: nn.Module, *, steps: int, learning_rate: float) -> float:
    """Mean squared error of new forecasts after some training, divided by that of no change."""
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(net.parameters(), learning_rate)
    net.train()
    for step in range(steps):
        spectrum, time_B = waves(8, generator), torch.rand(8, generator=generator)
        start_BCHW = carried(spectrum, torch.zeros(8))
        loss = (net(start_BCHW, time_B, TORUS) - carried(spectrum, time_B)).square().mean()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * min(1.0, (step + 1) / 5)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
    net.eval()
    spectrum, time_B = waves(32, generator), torch.rand(32, generator=generator)
    start_BCHW, end_BCHW = carried(spectrum, torch.zeros(32)), carried(spectrum, time_B)
    with torch.no_grad():
        error = (net(start_BCHW, time_B, TORUS) - end_BCHW).square().mean()
    return float(error / (start_BCHW - end_BCHW).square().mean())
