"""The networks that a configuration can name: the union of their configurations is the registry."""

from importlib import import_module
from typing import Annotated, Any, Literal

from pydantic import Field
from torch import nn

from pelagos.models.context import Signature
from pelagos.models.networks.credit.fuxi import FuXiConfig
from pelagos.models.networks.credit.wxformer import WXFormerConfig
from pelagos.models.networks.fourier.fno import FNOConfig
from pelagos.models.networks.fourier.sfno import SFNOConfig
from pelagos.models.networks.fourier.spherical_fno import SphericalFNOConfig
from pelagos.models.networks.scot.scot import ScOTConfig
from pelagos.models.networks.unet import UNetConfig
from pelagos.preprocessing.config import Config
from pelagos.preprocessing.errors import ConfigError
from pelagos.preprocessing.grid import Grid


class ExternalConfig(Config):
    """A user's own network.

    Attributes:
        path: the class as `package.module:Class`; it is called with the signature and `args`.
        args: keyword arguments.
    """

    kind: Literal["external"] = "external"
    path: str = Field(pattern=r"^[\w.]+:\w+$")
    args: dict[str, Any] = Field(default_factory=dict)

    def build(self, signature: Signature) -> nn.Module:
        """The network, whose `forward` takes (x_BCHW, lead_time_B, context).

        Raises:
            ConfigError: the path cannot be imported, or is not that of a network.
        """
        module, _, name = self.path.partition(":")
        try:
            cls = getattr(import_module(module), name)
        except (ImportError, AttributeError) as error:
            raise ConfigError(f"network.path {self.path!r} cannot be imported: {error}") from error
        # Checked before the call: a model folder of somebody else must not name a function to be called.
        if not (isinstance(cls, type) and issubclass(cls, nn.Module)):
            raise ConfigError(f"network.path {self.path!r} is {cls!r}, not a subclass of torch.nn.Module")
        return cls(signature, **self.args)


def check_grid(config: "NetworkConfig", grid: Grid, dataset: str) -> None:
    """Refuse a grid that a network's padding cannot be continued on.

    Raises:
        ConfigError: it cannot.
    """
    if isinstance(config, WXFormerConfig | FuXiConfig):
        config.padding.check_grid(grid, dataset)
    if isinstance(config, SphericalFNOConfig) and not grid.whole_sphere:
        raise ConfigError(
            f"network: spherical_fno needs the whole sphere, and the grid of {dataset} is a part of it: unet or scot"
            " would be right"
        )


NetworkConfig = Annotated[
    ScOTConfig
    | FNOConfig
    | SphericalFNOConfig
    | UNetConfig
    | WXFormerConfig
    | FuXiConfig
    | SFNOConfig
    | ExternalConfig,
    Field(discriminator="kind"),
]
