"""Held-out samples: the fixed sets on which a run is validated."""

from typing import Any

from pelagos.pipeline.training.trainer import LoopConfig
from pelagos.preprocessing.errors import ConfigError
from pelagos.preprocessing.samples.dataset import Dataset
from pelagos.preprocessing.samples.mixture import Mixture, Order, Sweep
from pelagos.preprocessing.samples.window_sampling import RolloutSampling


def held_out_orders(mixture: Mixture, loop: LoopConfig) -> dict[str, Order]:
    """Bounded, fixed sets of samples of each dataset that has a validation split, by the name of their score.

    Raises:
        ConfigError: trajectories are too short for the rollouts asked for, or the choice of weights has no scores.
    """
    present = [dataset for dataset in mixture.datasets if dataset.store.splits["valid"].any()]
    if not present and (loop.patience or loop.kept == "best"):
        raise ConfigError(
            "loop.patience and loop.kept=best need held-out samples: no store has a valid split"
        )
    orders: dict[str, Order] = {}
    if present:
        orders["valid"] = Sweep([_validating(dataset, loop) for dataset in present], loop.micro_batch)
    evolving = [dataset for dataset in present if dataset.store.num_times > 1]
    if evolving and loop.validation_rollout:
        orders["valid_rollout"] = Sweep([_rolling(dataset, loop) for dataset in evolving], loop.micro_batch)
    return orders


def _rolling(dataset: Dataset, loop: LoopConfig) -> Dataset:
    # The shortest lead time of training: others were never taught.
    lead = dataset.config.sampling.spacing
    return _validating(dataset, loop, sampling=RolloutSampling(steps=loop.validation_rollout, lead=lead))


def _validating(dataset: Dataset, loop: LoopConfig, **changes: Any) -> Dataset:
    # `num_trajectories` limits what is learnt from, not what is scored.
    fixed = {"split": "valid", "limit": loop.validation_samples, "num_trajectories": None}
    config = dataset.config.model_copy(update=fixed | changes)
    held_out = Dataset(dataset.store, config, dataset.normalizer)
    if dataset.rows is not None:
        held_out.share(dataset.rows)
    return held_out
