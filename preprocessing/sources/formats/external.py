"""External sources: a class of the user's own, named by its import path."""

from importlib import import_module
from typing import Any, Literal

import xarray as xr
from pydantic import Field

from pelagos.preprocessing.config import Config
from pelagos.preprocessing.errors import ConfigError


class ExternalSource(Config):
    """Any class whose objects have `open() -> xr.Dataset`, in the convention.

    Attributes:
        path: `package.module:Class`.
        args: keyword arguments of the class.
    """

    kind: Literal["external"]
    path: str
    args: dict[str, Any] = Field(default_factory=dict)

    def open(self) -> xr.Dataset:
        """The dataset that the class opens.

        Raises:
            ConfigError: there is no such class, or it does not take these arguments.
        """
        module, _, name = self.path.partition(":")
        try:
            source = getattr(import_module(module), name)(**self.args)
        except (ImportError, AttributeError, ValueError, TypeError) as error:
            raise ConfigError(f"source: cannot make {self.path!r} (package.module:Class): {error}") from error
        dataset = source.open()
        if not isinstance(dataset, xr.Dataset):
            raise ConfigError(f"source: {self.path} opens a {type(dataset).__name__}, not an xarray.Dataset")
        return dataset
