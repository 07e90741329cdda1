"""Ensembles: forecasts that differ by their starts, by their networks, or by what networks draw at random.

Every draw follows from the seed, the member, the trajectory and the start alone: neither the batch nor what was made
before has a say in it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from pelagos.evaluation.forecast_plan import ForecastStart
from pelagos.preprocessing.config import Config
from pelagos.preprocessing.errors import ConfigError

Purpose = Literal["start", "step", "network"]
# Keys that keep draws for different purposes apart.
_PURPOSES: dict[Purpose, int] = {"start": 0, "step": 1, "network": 2}


class NoisyStarts(Config):
    """Starts with Gaussian noise added, independent at every point.

    Attributes:
        scale: its standard deviation, in standard deviations of each variable.
    """

    kind: Literal["noise"] = "noise"
    scale: float = Field(default=0.01, gt=0)


class BredStarts(Config):
    """Starts with bred vectors added: the fastest growing differences of two forecasts (Toth & Kalnay, 1997).

    A difference is let grow over one step and scaled back to its size, again and again; it begins as noise.

    Attributes:
        scale: root mean square of the difference over all points, in standard deviations of each variable.
        cycles: how often.
        in_place: whether each cycle begins at the initial frame, rather than one step after the cycle before, which
            takes `cycles` frames before it.
    """

    kind: Literal["bred"] = "bred"
    scale: float = Field(default=0.01, gt=0)
    cycles: int = Field(default=5, gt=0)
    in_place: bool = False


class OtherStarts(Config):
    """Starts that are given: each member starts from a trajectory of its own, as of an ensemble of analyses.

    Attributes:
        trajectories: of the store, one for each member; by default the members follow one another there, so that
            trajectory t has the members t * members, t * members + 1, ...
    """

    kind: Literal["given"] = "given"
    trajectories: tuple[int, ...] = ()


Starts = Annotated[NoisyStarts | BredStarts | OtherStarts, Field(discriminator="kind")]


class EnsembleConfig(Config):
    """An ensemble of forecasts from each start.

    Attributes:
        members: how many; one for each model by default.
        seed: of all that is drawn.
        starts: how starts are perturbed: `noise`, `bred`, or `given` by other trajectories.
        control: whether member 0 starts from the frame as it is, and its network draws nothing.
        sampled: whether the network draws the noise that it was trained with (loss.kind crps).
        dropout: whether the network's dropout stays on as in training (Gal & Ghahramani, 2016).
        noise: standard deviation of noise that is added to the state before every step, in those of each variable.
    """

    members: int | None = Field(default=None, gt=0)
    seed: int = Field(default=0, ge=0)
    starts: Starts | None = None
    control: bool = True
    sampled: bool = False
    dropout: bool = False
    noise: float = Field(default=0.0, ge=0)

    @model_validator(mode="after")
    def _one_trajectory_each(self) -> "EnsembleConfig":
        given = self.starts.trajectories if isinstance(self.starts, OtherStarts) else ()
        if given and self.members not in (None, len(given)):
            raise ValueError(f"members is {self.members}, but starts.trajectories names {len(given)}")
        return self

    def count(self, models: int) -> int:
        """The number of members, of so many models.

        Raises:
            ConfigError: the members would all be the same.
        """
        given = len(self.starts.trajectories) if isinstance(self.starts, OtherStarts) else 0
        count = self.members or given or models
        differ = self.starts is not None or self.sampled or self.dropout or self.noise
        if count > models and not differ:
            raise ConfigError(
                f"ensemble: {count} members of {models} model(s) would be the same: perturb their starts by"
                " ensemble.starts, or set ensemble.sampled, ensemble.dropout or ensemble.noise"
            )
        return count

    def is_perturbed(self, member: int) -> bool:
        """Whether a member differs from the control."""
        return not (self.control and member == 0)

    def source(self, one: ForecastStart, members: int) -> ForecastStart:
        """The start whose frames a member begins with."""
        if not isinstance(self.starts, OtherStarts):
            return one
        given = self.starts.trajectories
        row = given[one.member] if given else one.trajectory * members + one.member
        return one._replace(trajectory=row)


def draws(seed: int, one: ForecastStart, purpose: Purpose, step: int = 0) -> np.random.Generator:
    """The generator of what one forecast draws for a purpose at a step."""
    key = (seed, _PURPOSES[purpose], one.member, one.trajectory, one.start, step)
    return np.random.default_rng(np.random.SeedSequence(key))


def normal(generator: np.random.Generator, like_CHW: Tensor) -> Tensor:
    """(C, H, W) independent standard normal numbers."""
    values = generator.standard_normal(tuple(like_CHW.shape), np.float32)
    return torch.as_tensor(values, device=like_CHW.device)


def dropout_modules(network: nn.Module) -> list[nn.Module]:
    """The modules of a network that drop at random in training.

    Raises:
        ConfigError: there are none, so that dropout would do nothing.
    """
    found = [module for module in network.modules() if _drops(module)]
    if not found:
        raise ConfigError(
            "ensemble.dropout: the network has no dropout, or was trained with a share of 0: perturb the starts"
            " (ensemble.starts) or the steps (ensemble.noise) instead"
        )
    return found


def _drops(module: nn.Module) -> bool:
    shares = (getattr(module, name, 0) for name in ("p", "dropout", "drop_prob"))
    return any(isinstance(share, float) and share > 0 for share in shares)


@contextmanager
def dropping(network: nn.Module, seed: int) -> Iterator[None]:
    """Within this context the network drops as in training, by a seed; its other modules stay as they are."""
    modules = dropout_modules(network)
    before = [module.training for module in modules]
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        try:
            for module in modules:
                module.training = True
            yield
        finally:
            for module, training in zip(modules, before, strict=True):
                module.training = training
