from pathlib import Path
from typing import Any

import pytest
from analytic_source import configuration
from pydantic import ValidationError

from pelagos.preprocessing.build.build_config import BuildConfig


def test_a_store_lies_in_a_folder_of_its_dataset(tmp_path: Path) -> None:
    config = configuration(tmp_path, version=2)
    assert config.version == "2"
    assert config.path == tmp_path / "analytic" / "analytic-2.zarr"


def test_shares_are_counted_from_one(tmp_path: Path) -> None:
    assert configuration(tmp_path).share == (0, 1)
    assert configuration(tmp_path, part="3/16").share == (2, 16)


def test_where_and_how_a_store_is_built_is_no_part_of_its_content(tmp_path: Path) -> None:
    config = configuration(tmp_path)
    elsewhere = configuration(tmp_path / "b", workers=3, scheduler="tcp://a:1", part="1/2", overwrite=True)
    assert elsewhere.content() == config.content()
    assert elsewhere.makes(config.content())
    assert not configuration(tmp_path, codec="blosc-lz4").makes(config.content())


def test_the_identity_leaves_out_defaults_and_nothing_else(tmp_path: Path) -> None:
    config = configuration(tmp_path)
    said = configuration(tmp_path, codec="none", coarsen=1, missing="error")
    assert said.identity() == config.identity()
    assert "coarsen" not in config.identity()
    assert config.content()["coarsen"] == 1
    other = configuration(tmp_path, coarsen=2)
    assert other.identity() == config.identity() | {"coarsen": 2}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dataset": "a/b"}, "dataset.*should be a name of letters, digits"),
        ({"version": "../1"}, "version.*should be a name of letters, digits"),
        ({"scheduler": "host:8786"}, "scheduler.*should be an address such as tcp://host:8786"),
        ({"part": "0/2"}, "part.*should be i/n, counted from 1, such as 2/16"),
        ({"attributes": {"history": "mine"}}, "history is written by the build itself"),
        ({"shard_bytes": 0}, "shard_bytes.*greater than 0"),
        ({"workers": {"kind": "slurm", "jobs": 0}}, "workers.slurm.jobs.*greater than 0"),
        ({"root": "s3://bucket"}, "root.*only a folder of this machine can be written to"),
        ({"bits": {"velocity_x": 23}}, "bits.velocity_x.*less than or equal to 22"),
    ],
)
def test_impossible_values_are_refused_by_field(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=f"(?s){message}"):
        BuildConfig.model_validate(configuration(tmp_path).model_dump() | options)
