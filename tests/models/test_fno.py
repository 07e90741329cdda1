from typing import Any

from tests.models.contracts import NetworkContract
from torch import nn

from pelagos.models.context import Signature
from pelagos.models.fno import FNOConfig


class TestFNO(NetworkContract):
    sizes = ((16, 16), (13, 22))
    any_variables = True

    def build(self, signature: Signature, **options: Any) -> nn.Module:
        return FNOConfig(width=8, modes=(4, 4), num_layers=2, **options).build(signature)
