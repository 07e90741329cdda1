"""Forecast check: which forecasts an evaluation or a refinement will make, before it loads a network."""

from collections.abc import Iterator, Sequence

from pelagos.evaluation.forecast_plan import ForecastPlan
from pelagos.pipeline.checking.check_finding import CheckFinding
from pelagos.pipeline.stages.evaluate import EvaluateStage
from pelagos.pipeline.stages.refine import RefineStage
from pelagos.pipeline.tracking import model_registry
from pelagos.preprocessing.config import Config
from pelagos.preprocessing.errors import MissingFileError
from pelagos.preprocessing.store.store import Store, open_store


def check_forecasts(config: Config) -> Iterator[CheckFinding]:
    """What is known of the forecasts of a configuration; nothing where it makes none.

    Raises:
        PelagosError: the store cannot be opened, or no forecast fits into it.
    """
    if not isinstance(config, EvaluateStage | RefineStage):
        return
    models = list(config.models.values()) if isinstance(config, EvaluateStage) else [config.model]
    for model in models:
        try:
            model_registry.resolve(model, config.tracking)
        except MissingFileError as error:
            # Not an error: a check may come before the training that makes the model.
            yield CheckFinding("note", str(error))
    if not config.store.exists():
        yield CheckFinding("note", f"the store {config.store} does not exist yet")
        return
    store = open_store(config.store)
    # Forecasts without a truth may reach beyond the store's last frame.
    verified = config.truth if isinstance(config, RefineStage) else True
    yield _describe(store, config.starts.plan(store, verified=verified), models)


def _describe(store: Store, plan: ForecastPlan, models: Sequence[str]) -> CheckFinding:
    units = "" if store.time_units == "1" else f" {store.time_units}"
    lead = plan.steps * plan.stride * store.dt
    num = len(plan.trajectories) * len(plan.starts)
    return CheckFinding(
        "forecasts",
        f"{num} for each of {len(models)} model(s): {len(plan.trajectories)} trajectories of split {plan.split} from"
        f" {len(plan.starts)} start(s), {plan.steps} step(s) of {plan.stride} frame(s), to lead time {lead:g}{units}",
        {"forecasts": num, "steps": plan.steps, "longest_lead": lead},
    )
