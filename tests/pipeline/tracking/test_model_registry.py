"""The registry: versions and aliases come back, and a wrong name says which ones there are."""

from functools import partial
from pathlib import Path

import processes
import pytest

from pelagos.pipeline.tracking import model_registry
from pelagos.pipeline.tracking.tracker import TrackingConfig
from pelagos.preprocessing.errors import DataError, MissingFileError, TemporaryError


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


def test_models_beyond_the_servers_first_page_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = TrackingConfig(uri=f"sqlite:///{tmp_path}/mlflow.db")
    client = config.client()
    for name in "abcde":
        client.create_registered_model(name)
    # A page holds a hundred unless two are asked for.
    monkeypatch.setattr(
        client, "search_registered_models", partial(client.search_registered_models, max_results=2)
    )
    monkeypatch.setattr(TrackingConfig, "client", lambda self: client)
    with pytest.raises(MissingFileError, match="'e' has no alias 'best'"):
        model_registry.resolve("models:/e@best", config)
    with pytest.raises(MissingFileError, match="there are: a, b, c, d, e"):
        model_registry.resolve("models:/f@best", config)


def register_one(folder: str, uri: str) -> None:
    """What each of several processes does at once."""
    config = TrackingConfig(uri=uri)
    run = config.client().create_run(config.experiment_id())
    version = model_registry.register(config, Path(folder), "ocean", "champion", run.info.run_id)
    Path(folder).with_name(f"version-{version.version}").touch()


def test_six_may_register_the_first_version_at_once(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.json").write_text("{}")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    processes.run(Path(__file__), "register_one", 6, {"folder": str(tmp_path / "model"), "uri": uri})
    assert sorted(file.name for file in tmp_path.glob("version-*")) == [f"version-{n}" for n in range(1, 7)]
    client = TrackingConfig(uri=uri).client()
    assert int(client.get_registered_model("ocean").aliases["champion"]) == 6


def test_a_server_that_is_away_is_a_fault_that_passes() -> None:
    config = TrackingConfig(uri="http://127.0.0.1:9")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        with pytest.raises(TemporaryError, match="does not answer"):
            model_registry.resolve("models:/ocean@champion", config)
