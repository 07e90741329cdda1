"""Noise reaches the network as it was drawn, and nowhere else."""

import torch
from torch.testing import assert_close

from pelagos.models.context import Signature
from pelagos.models.layers.conditioning import condition_names, encode_conditions, noise_names
from pelagos.models.layers.noise import draw_noise, with_noise

SIGNATURE = Signature(("u",), ("u",), ("viscosity", *noise_names(3)))


def test_noise_is_encoded_as_the_numbers_that_were_drawn() -> None:
    scalars_BS = torch.tensor([[0.5, 0.0, 0.0, 0.0]] * 1000)
    noise_BZ = draw_noise(1000, SIGNATURE, torch.device("cpu"))
    told_BS = with_noise(scalars_BS, noise_BZ, SIGNATURE)
    conditions_BK = encode_conditions(torch.ones(1000), told_BS, SIGNATURE.scalars)
    assert_close(conditions_BK[:, 2:5], noise_BZ, rtol=1e-5, atol=1e-6)
    assert condition_names(SIGNATURE.scalars)[-2:] == ("sine:viscosity", "cosine:viscosity"), (
        "and as nothing else"
    )
    assert torch.equal(told_BS[:, 0], scalars_BS[:, 0])
    assert torch.equal(scalars_BS[:, 1:], torch.zeros(1000, 3)), "the scalars that were given stay"
    assert abs(float(noise_BZ.std()) - 1) < 0.1
