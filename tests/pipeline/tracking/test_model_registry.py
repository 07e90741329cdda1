"""The registry: versions and aliases come back, and a wrong name says which ones there are."""

import pytest

from pelagos.pipeline.tracking import model_registry
from pelagos.pipeline.tracking.tracker import TrackingConfig
from pelagos.preprocessing.errors import DataError, MissingFileError


@pytest.fixture(scope="module")
def tracking(tmp_path_factory: pytest.TempPathFactory) -> TrackingConfig:
    """A registry with two versions of one model."""
    folder = tmp_path_factory.mktemp("registry")
    config = TrackingConfig(uri=f"sqlite:///{folder}/mlflow.db")
    model = folder / "model"
    model.mkdir()
    for number in (1, 2):
        (model / "model.json").write_text(str(number))
        run = config.client().create_run(config.experiment_id())
        model_registry.register(config, model, "ocean", "champion", run.info.run_id)
    return config


def test_an_alias_points_to_the_newest_version_and_a_number_to_its_own(tracking: TrackingConfig) -> None:
    assert (model_registry.resolve("models:/ocean@champion", tracking) / "model.json").read_text() == "2"
    assert (model_registry.resolve("models:/ocean/1", tracking) / "model.json").read_text() == "1"


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("models:/ocean@challenger", "has no alias 'challenger' .* it has: champion"),
        ("models:/lake@champion", "no model 'lake' .* there are: ocean"),
        ("models:/ocean/7", "has no version '7'"),
        ("runs/nothing", "no model folder runs/nothing"),
    ],
)
def test_a_wrong_reference_says_what_there_is(tracking: TrackingConfig, reference: str, message: str) -> None:
    with pytest.raises(MissingFileError, match=message):
        model_registry.resolve(reference, tracking)


def test_a_reference_without_a_version_asks_for_one(tracking: TrackingConfig) -> None:
    with pytest.raises(DataError, match="write models:/ocean@ALIAS"):
        model_registry.resolve("models:/ocean", tracking)
