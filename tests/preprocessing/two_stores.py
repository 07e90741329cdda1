"""Two small stores, and a mixture of their samples."""

from pathlib import Path
from typing import Any

from analytic_source import configuration

from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.samples.dataset import Dataset
from pelagos.preprocessing.samples.mixture import Mixture


def build_stores(root: Path) -> list[Path]:
    """Stores of 40 samples of 8 x 8 points and of 70 samples of 4 x 4 points, some of them missing."""
    sources: list[dict[str, Any]] = [
        {},
        {"trajectories": 9, "size": 4, "names": ["density", "velocity_x"], "sea": 1},
    ]
    return [
        build(configuration(root, source, version=str(n), missing="keep")) for n, source in enumerate(sources)
    ]


def mixture(datasets: list[Dataset], **options: Any) -> Mixture:
    return Mixture(datasets, **({"batch_size": 20, "micro_batch": 5, "seed": 3} | options))
