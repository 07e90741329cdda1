"""The networks that Pelagos is measured against, of the packages that people use."""

import sys
from itertools import product
from types import ModuleType
from typing import Any

from torch import Tensor, nn
from transformers import ConvNextConfig, Swinv2Config
from transformers.models.convnext.modeling_convnext import ConvNextLayer
from transformers.models.swinv2.modeling_swinv2 import Swinv2Embeddings, Swinv2PatchMerging, Swinv2Stage

from pelagos.models.networks.scot.scot import ScOTConfig

POWER_ITERATIONS = 15


class Expansion(nn.Module):
    """One token to two by two of half the channels, as scOT's decoder has it."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.upsample = nn.Linear(dim, 2 * dim, bias=False)
        self.norm = nn.LayerNorm(dim // 2)
        self.mixup = nn.Linear(dim // 2, dim // 2, bias=False)

    def forward(self, x_BND: Tensor, side: int) -> Tensor:
        x = self.upsample(x_BND).reshape(len(x_BND), side, side, 2, 2, -1)
        tokens_BMd = x.permute(0, 1, 3, 2, 4, 5).reshape(len(x_BND), 4 * side**2, -1)
        mixed_BMd: Tensor = self.mixup(self.norm(tokens_BMd))
        return mixed_BMd


class TransformersScOT(nn.Module):
    """scOT's plan out of transformers' Swin V2 stages and ConvNeXt layers.

    The norms are plain: neither lead time nor scalars are heard. That is less work than scOT does.
    """

    def __init__(self, sizes: ScOTConfig, channels: int, side: int) -> None:
        super().__init__()
        self.config = Swinv2Config(
            image_size=side,
            patch_size=sizes.patch_size,
            num_channels=channels,
            embed_dim=sizes.embed_dim,
            depths=list(sizes.depths),
            num_heads=list(sizes.num_heads),
            window_size=sizes.window_size,
            mlp_ratio=sizes.mlp_ratio,
            drop_path_rate=0.0,
        )
        self.side, self.levels = side // sizes.patch_size, len(sizes.depths)
        dims = [sizes.embed_dim * 2**level for level in range(self.levels)]
        self.embeddings = Swinv2Embeddings(self.config)
        self.encoder = nn.ModuleList(
            self._stage(level, None if level == self.levels - 1 else Swinv2PatchMerging)
            for level in range(self.levels)
        )
        self.decoder = nn.ModuleList(self._stage(level, None) for level in reversed(range(self.levels)))
        self.expansions = nn.ModuleList(Expansion(dim) for dim in reversed(dims[1:]))
        self.skips = nn.ModuleList(
            nn.Sequential(*(ConvNextLayer(ConvNextConfig(), dim) for _ in range(count)))
            for dim, count in zip(dims, sizes.skip_connections, strict=True)
        )
        self.recovery = nn.ConvTranspose2d(dims[0], channels, sizes.patch_size, sizes.patch_size)
        self.mixup = nn.Conv2d(channels, channels, 5, padding=2, bias=False)

    def _stage(self, level: int, downsample: type[nn.Module] | None) -> Swinv2Stage:
        side, depth = self.side // 2**level, self.config.depths[level]
        return Swinv2Stage(
            self.config,
            self.config.embed_dim * 2**level,
            (side, side),
            depth,
            self.config.num_heads[level],
            [0.0] * depth,
            downsample,
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x_BND, _ = self.embeddings(x_BCHW)
        skips = []
        for level, stage in enumerate(self.encoder):
            side = self.side // 2**level
            x_BND, before_BND, _ = stage(x_BND, (side, side))
            grid_BDhw = before_BND.transpose(1, 2).unflatten(2, (side, side))
            skips.append(self.skips[level](grid_BDhw).flatten(2).transpose(1, 2))
        x_BND = skips.pop()
        for level, stage in zip(reversed(range(self.levels)), self.decoder, strict=True):
            side = self.side // 2**level
            x_BND = stage(x_BND, (side, side))[0]
            if skips:
                x_BND = self.expansions[self.levels - 1 - level](x_BND, side) + skips.pop()
        grid_BDhw = x_BND.transpose(1, 2).unflatten(2, (self.side, self.side))
        out_BCHW: Tensor = self.mixup(self.recovery(grid_BDhw))
        return out_BCHW


def credit_crossformer(arguments: dict[str, Any]) -> nn.Module:
    """miles-credit's WXFormer, installed without its dependencies."""
    # What its physics after the network would need is not installed, and no network here has any.
    physics = ModuleType("credit.postblock.gen1")
    physics.PostBlock = None  # type: ignore[attr-defined]
    sys.modules.setdefault("credit.postblock.gen1", physics)
    from credit.models.wxformer.crossformer import CrossFormer

    network: nn.Module = CrossFormer(**arguments)
    # Fresh vectors of its spectral norms are random, and so are the weights divided by what they give.
    for module, _ in product(network.modules(), range(POWER_ITERATIONS)):
        for prepare in module._forward_pre_hooks.values():
            prepare(module, ())
    return network
