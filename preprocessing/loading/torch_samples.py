"""Torch samples: the samples of stores as a `Dataset` and an `IterableDataset` of torch.

Shapes: B samples, K forecast steps, C channels, F of them forcing, H rows, W columns, S scalars.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import IterableDataset, get_worker_info

from pelagos.preprocessing import transform
from pelagos.preprocessing.errors import ConfigError
from pelagos.preprocessing.files.location import Url
from pelagos.preprocessing.layout import Layout
from pelagos.preprocessing.loading.loader import Loader
from pelagos.preprocessing.samples.augment_config import AugmentConfig
from pelagos.preprocessing.samples.batch import Batch
from pelagos.preprocessing.samples.dataset import Dataset, DatasetConfig
from pelagos.preprocessing.samples.mixture import Mixture, Order, Sweep
from pelagos.preprocessing.samples.sample_index import PairSampling, Sampling

_TENSORS = ("inputs", "targets", "mask", "forcings", "lead_time", "scalars", "index")
_CONFIG: TypeAdapter[DatasetConfig] = TypeAdapter(DatasetConfig)


class TorchSample(TypedDict):
    """One sample, normalised; missing values are zero and marked by `mask`. Each part as in `Batch`, without B."""

    inputs: Tensor
    targets: Tensor
    mask: Tensor
    forcings: Tensor
    lead_time: Tensor
    scalars: Tensor
    index: Tensor


class Samples(TorchDataset[TorchSample]):
    """The samples of one split of a store, each in memory of its own.

    Args:
        store: its path or URL.
        split: `train`, `valid` or `test`.
        sampling: which pairs or windows of frames are samples; all pairs of frames by default.
        limit: how many samples at most, spread evenly; all by default.

    Attributes:
        layout: what the channels are, on which grid, and how long lead time 1 is.

    Raises:
        MissingFileError: there is no such store.
        ConfigError: an argument is not one of those possible, or no sample fits into the split.
    """

    def __init__(
        self,
        store: str | Path | Url,
        split: str = "train",
        *,
        sampling: Sampling | Mapping[str, Any] | None = None,
        limit: int | None = None,
    ) -> None:
        self._config = _dataset_config(store, split, sampling, limit)
        self._dataset = self._config.open()
        self.layout: Layout = self._dataset.layout

    def __len__(self) -> int:
        return self._dataset.num_samples

    def __iter__(self) -> Iterator[TorchSample]:
        return (self[number] for number in range(len(self)))

    def __getitem__(self, number: int) -> TorchSample:
        if not -len(self) <= number < len(self):
            # What ends a loop over a sequence.
            raise IndexError(f"sample {number} of {len(self)}")
        return self.__getitems__([number % len(self)])[0]

    def __getitems__(self, numbers: Sequence[int]) -> list[TorchSample]:
        """Several samples, which are read together: what torch's DataLoader asks for."""
        batch = self._dataset.batch(np.asarray(numbers, np.int64))
        return [_sample(batch, position) for position in range(len(numbers))]

    def physical(self, targets: Tensor) -> NDArray[Any]:
        """(..., C, H, W) targets, or forecasts of them, in the units of the layout's outputs."""
        stored = self._dataset.output_normalizer.denormalize(targets.detach().float().cpu().numpy())
        return transform.to_physical(stored, [variable.transform for variable in self.layout.outputs])

    def __reduce__(self) -> tuple[Any, ...]:
        # Worker processes open the store for themselves: what is mapped into memory cannot be sent.
        config = self._config
        return _reopened, (config.path, config.split, config.sampling.model_dump(), config.limit)


class SampleStream(IterableDataset[Batch]):
    """Batches of the samples of several stores, in the order of training, read ahead in threads.

    For a `DataLoader` with `batch_size=None` and no workers, or for a loop of its own.

    Args:
        stores: their paths or URLs.
        batch_size: samples of a batch, all of one store.
        split: `train`, `valid` or `test`.
        sampling: which pairs or windows of frames are samples; all pairs of frames by default.
        seed: of the order; None for every sample once, in order.
        steps: batches in all; without end by default where the order is drawn.
        rank: which of `world` processes this is.
        world: how many processes share the batches.
        reuse: whether a batch may lie in memory that the next one is read into, which saves a copy: then it is valid
            until the next one is asked for.
        threads: that read ahead.

    Raises:
        MissingFileError: there is no such store.
        ConfigError: an argument is not one of those possible, or no sample fits into a split.
    """

    def __init__(
        self,
        stores: str | Path | Url | Sequence[str | Path | Url],
        batch_size: int,
        split: str = "train",
        *,
        sampling: Sampling | Mapping[str, Any] | None = None,
        seed: int | None = 0,
        steps: int | None = None,
        rank: int = 0,
        world: int = 1,
        reuse: bool = False,
        threads: int = 2,
    ) -> None:
        paths = [stores] if isinstance(stores, str | Path | Url) else list(stores)
        datasets = [_dataset_config(path, split, sampling, None).open() for path in paths]
        self.layouts: tuple[Layout, ...] = tuple(dataset.layout for dataset in datasets)
        self._order = _order(datasets, batch_size, seed, world)
        self._rank, self._world, self._steps = rank, world, steps
        self._reuse, self._threads = reuse, threads

    def __iter__(self) -> Iterator[Batch]:
        if get_worker_info() is not None:
            raise ConfigError(
                "a SampleStream reads ahead in threads of its own: give the DataLoader num_workers=0, and"
                " batch_size=None"
            )
        loader = Loader(
            self._order, rank=self._rank, world=self._world, num_steps=self._steps, threads=self._threads
        )
        for batch in loader:
            assert isinstance(batch, Batch)  # since readers normalise
            yield batch if self._reuse else _copied(batch)


def _order(datasets: Sequence[Dataset], batch_size: int, seed: int | None, world: int) -> Order:
    if seed is None:
        return Sweep(datasets, batch_size)
    return Mixture(datasets, batch_size=batch_size * world, micro_batch=batch_size, seed=seed)


def _copied(batch: Batch) -> Batch:
    """The same batch in memory of its own."""
    return replace(batch, **{name: getattr(batch, name).clone() for name in _TENSORS})


def _sample(batch: Batch, position: int) -> TorchSample:
    # A copy: a view would keep the whole batch in memory for as long as one sample of it.
    inputs, targets, mask, forcings, lead_time, scalars, index = (
        getattr(batch, name)[position].clone() for name in _TENSORS
    )
    return TorchSample(
        inputs=inputs,
        targets=targets,
        mask=mask,
        forcings=forcings,
        lead_time=lead_time,
        scalars=scalars,
        index=index,
    )


def _dataset_config(
    store: str | Path | Url, split: str, sampling: Sampling | Mapping[str, Any] | None, limit: int | None
) -> DatasetConfig:
    # As they are stored: what a loop of one's own transforms, it should know of.
    augment = AugmentConfig(auto=False)
    values: dict[str, Any] = {"path": store, "split": split, "limit": limit, "augment": augment}
    values["sampling"] = PairSampling() if sampling is None else sampling
    try:
        return _CONFIG.validate_python(values)
    except ValidationError as error:
        found = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise ConfigError(f"samples of {store}: {found}") from error


def _reopened(path: Path | Url, split: str, sampling: Mapping[str, Any], limit: int | None) -> Samples:
    return Samples(path, split, sampling=sampling, limit=limit)
