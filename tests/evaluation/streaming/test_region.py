from dataclasses import replace

import numpy as np
import pytest

from pelagos.evaluation.streaming.region import NAMED, RegionConfig, make_regions
from pelagos.preprocessing.array_types import Floats
from pelagos.preprocessing.errors import ConfigError
from pelagos.preprocessing.grid import Grid
from pelagos.preprocessing.store.store import Store

SPHERE = Grid(
    "latlon", np.arange(85.0, -90, -10), np.arange(0.0, 360, 10), ("pole", "pole"), ("periodic",) * 2
)


def on_sphere(store: Store) -> Store:
    return replace(store, grid=SPHERE)


def inside(store: Store, config: RegionConfig) -> tuple[Floats, Floats]:
    weights = make_regions((config,), store)[1].weights
    return store.grid.y[weights.any(axis=1)], store.grid.x[weights.any(axis=0)]


def test_the_whole_domain_comes_first_and_weighs_as_cells_do(store: Store) -> None:
    regions = make_regions((), store)
    assert [region.name for region in regions] == ["all"]
    np.testing.assert_array_equal(regions[0].weights, store.grid.area_weights())


def test_a_box_crosses_the_first_meridian_and_either_end_of_latitude(store: Store) -> None:
    rows, columns = inside(on_sphere(store), NAMED["europe"])
    assert set(rows) == {35, 45, 55, 65, 75}
    assert set(columns) == {350, 0, 10, 20, 30, 40}
    _, pacific = inside(on_sphere(store), NAMED["north_pacific"])
    assert pacific.min() == 150
    assert pacific.max() == 230


def test_weights_are_those_of_the_whole_grid_and_the_rest_is_zero(store: Store) -> None:
    everything, tropics, rest = make_regions(("tropics", "extratropics"), on_sphere(store))
    np.testing.assert_array_equal(tropics.weights + rest.weights, everything.weights)
    assert (tropics.rows, tropics.columns) == (slice(7, 11), slice(0, 36))


def test_a_region_that_cannot_be_is_refused(store: Store) -> None:
    with pytest.raises(ConfigError, match="tropics is on the sphere"):
        make_regions(("tropics",), store)
    with pytest.raises(ConfigError, match=r"no point of .* is in nowhere"):
        make_regions((RegionConfig(name="nowhere", y=(50, 60)),), store)
    with pytest.raises(ConfigError, match="there are two of the name tropics"):
        make_regions(("tropics", "tropics"), on_sphere(store))
    with pytest.raises(ConfigError, match="no static field lsm; it has wave_speed"):
        make_regions((RegionConfig(name="land", mask="lsm"),), store)
    with pytest.raises(ValueError, match=r"give it y: \[FROM, TO\]"):
        RegionConfig(name="nothing")
