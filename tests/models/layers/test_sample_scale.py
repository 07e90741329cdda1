"""Scales of samples, and what a network that works by them promises."""

import pytest
import torch

from pelagos.models.context import Context, Signature
from pelagos.models.layers.sample_scale import FLOOR, SampleScale
from pelagos.models.networks.scot.scot import ScOTConfig
from pelagos.preprocessing.errors import ConfigError

NAMES = ("density", "force", "density[-1]", "pressure")
CONFIG = ScOTConfig(
    embed_dim=8,
    depths=(1,),
    num_heads=(2,),
    skip_connections=(0,),
    window_size=4,
    patch_size=2,
    position_bias_dim=8,
    per_sample=True,
)


def fields(seed: int = 0) -> torch.Tensor:
    return torch.randn(2, 4, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_fields_that_evolve_have_no_mean_and_a_deviation_of_one() -> None:
    x_BCHW = 3 * fields() + 5
    found = SampleScale.of(x_BCHW, NAMES, (0, 3, -1)).normalised(x_BCHW)
    deviation, mean = torch.std_mean(found[:, [0, 3]], (2, 3), correction=0)
    torch.testing.assert_close(mean, torch.zeros_like(mean))
    torch.testing.assert_close(deviation, torch.ones_like(deviation))
    assert torch.equal(found[:, 1], x_BCHW[:, 1])
    # An earlier frame differs from the latest by what has changed since, and by nothing else.
    both = SampleScale.of(x_BCHW, NAMES, (0,)).normalised(x_BCHW[:, [2, 1, 2, 3]])
    torch.testing.assert_close(both[:, 0], both[:, 2])


def test_a_constant_field_is_not_blown_up() -> None:
    x_BCHW = torch.full((1, 4, 8, 8), 2.0)
    scale = SampleScale.of(x_BCHW, NAMES, (0,))
    assert not scale.normalised(x_BCHW)[:, 0].any()
    assert scale.changes(torch.ones(1, 2, 8, 8), (0, -1))[0, :, 0, 0].tolist() == pytest.approx([FLOOR, 1.0])


def test_forecasts_of_shifted_and_amplified_fields_are_shifted_and_amplified() -> None:
    torch.manual_seed(0)
    net = CONFIG.build(Signature(NAMES, ("density", "pressure"))).double().eval()
    x_BCHW, time_B = fields(), torch.tensor([0.4, 0.8], dtype=torch.float64)
    moved_BCHW = x_BCHW.clone()
    moved_BCHW[:, [0, 2]] = 7 * x_BCHW[:, [0, 2]] - 3
    context = Context(periodic=(True, True))
    with torch.no_grad():
        plain, moved = (net(x, time_B, context) for x in (x_BCHW, moved_BCHW))
    torch.testing.assert_close(moved[:, 0], 7 * plain[:, 0] - 3, rtol=0, atol=1e-10)
    torch.testing.assert_close(moved[:, 1], plain[:, 1], rtol=0, atol=1e-10)


def test_shared_samples_and_the_other_preset_are_refused() -> None:
    signature = Signature(("a",), ("a",), shape=(8, 8))
    with pytest.raises(ConfigError, match="per_sample needs all rows"):
        CONFIG.build(signature).shared_unit((8, 8), 2)
    with pytest.raises(ConfigError, match="per_sample is for preset pelagos"):
        CONFIG.model_copy(update={"preset": "poseidon"}).build(signature)
