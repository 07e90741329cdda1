"""Physical values are those that a store holds, and back."""

import numpy as np
import torch

from pelagos.models.constraints.physical_fields import Channel
from pelagos.preprocessing.transform import Asinh, Log1p, Shift
from pelagos.preprocessing.variables import Variable


def test_the_inverse_of_each_transform_is_the_stores_own() -> None:
    values = torch.randn(1, 3, 3, dtype=torch.float64)
    for kind in (None, Log1p(scale=0.3), Asinh(scale=0.3), Shift(offset=7.0)):
        channel = Channel(0, Variable(name="u", transform=kind), 0.5, 2.0)
        stored = values.numpy() * 2.0 + 0.5
        wanted = stored if kind is None else kind.inverse(stored)
        np.testing.assert_allclose(channel.physical(values).numpy(), wanted, rtol=1e-13)
        torch.testing.assert_close(channel.normalized(channel.physical(values)), values)
