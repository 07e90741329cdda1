"""Forecast check: which forecasts a command will make, and whether its models may be used there, without a network."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from pelagos.evaluation.forecast_plan import ForecastPlan
from pelagos.pipeline.checking.check_finding import CheckFinding, warning
from pelagos.pipeline.checking.sweep_check import check_sweep
from pelagos.pipeline.forecasting.coarse_solver import SolverFrames
from pelagos.pipeline.forecasting.forcing_supply import ForcingSupply
from pelagos.pipeline.forecasting.forecaster import check_history, check_variables, concerns
from pelagos.pipeline.runs.domain_fit import fit
from pelagos.pipeline.runs.model_folder import described, domain_of_dataset
from pelagos.pipeline.stages.evaluate import EvaluateStage
from pelagos.pipeline.stages.forecast import ForecastStage
from pelagos.pipeline.stages.refine import RefineStage, check_fields, prepare
from pelagos.pipeline.stages.sweep import SweepStage
from pelagos.pipeline.tracking import model_registry
from pelagos.preprocessing.config import Config
from pelagos.preprocessing.errors import MissingFileError
from pelagos.preprocessing.store.store import Store, open_store


def check_forecasts(config: Config) -> Iterator[CheckFinding]:
    """What is known of the forecasts of a configuration, or of the runs of a sweep; nothing where it makes none.

    Raises:
        PelagosError: the store cannot be opened, or no forecast fits into it.
    """
    if isinstance(config, SweepStage):
        yield from check_sweep(config)
    if not isinstance(config, EvaluateStage | RefineStage | ForecastStage):
        return
    models, folders = _labelled(config), {}
    for label, model in models.items():
        try:
            folders[label] = model_registry.resolve(model, config.tracking)
        except MissingFileError as error:
            # Not an error: a check may come before the training that makes the model.
            yield CheckFinding("note", str(error))
    if not config.store:
        return  # an archive, which is read in the model's form only when there is a model
    if not config.store.exists():
        yield CheckFinding("note", f"the store {config.store} does not exist yet")
        return
    store = open_store(config.store)
    plan = config.starts.plan(store, verified=_verified(config))
    yield _describe(store, plan, list(models))
    if isinstance(config, EvaluateStage) and plan.split == "train":
        yield warning(
            "starts.split: train: models that were trained on this store have seen these frames, which flatters their"
            " scores; build a store with splits: {test: ...}"
        )
    yield from (CheckFinding("note", one) for one in _equation_notes(config, store, plan))
    for label, folder in folders.items():
        yield from _fitting(config, label, folder, store, plan)


def _equation_notes(
    config: EvaluateStage | RefineStage | ForecastStage, store: Store, plan: ForecastPlan
) -> Sequence[str]:
    """What becomes of the equation's own numbers; raises DataError where it cannot be propagated from every start."""
    if isinstance(config, RefineStage):
        return prepare(config, store, plan)[1]
    if isinstance(config, EvaluateStage) and config.solver is not None:
        return SolverFrames.of(config.solver, store, plan).notes
    return ()


def _labelled(config: EvaluateStage | RefineStage | ForecastStage) -> dict[str, str]:
    """The models, by what messages call them."""
    if isinstance(config, EvaluateStage):
        return {f"model {name}": model for name, model in config.models.items()}
    models = config.models if isinstance(config, ForecastStage) else (config.model,)
    return {"the model": models[0]} if len(models) == 1 else {f"model {one}": one for one in models}


def _verified(config: EvaluateStage | RefineStage | ForecastStage) -> bool:
    """Whether there is a truth; forecasts without one may reach beyond the store's last frame."""
    if isinstance(config, EvaluateStage):
        return True
    return config.truth and not (isinstance(config, ForecastStage) and config.starts.at)


def _fitting(
    config: EvaluateStage | RefineStage | ForecastStage,
    label: str,
    folder: Path,
    store: Store,
    plan: ForecastPlan,
) -> Iterator[CheckFinding]:
    """How a store differs from what a model was trained on; raises DataError where it cannot be used on it."""
    signature, domains = described(folder)
    domain = domain_of_dataset(domains, store.dataset)
    found = fit(domain, store, signature.scalars)
    supply = ForcingSupply(store)
    if isinstance(config, ForecastStage):
        supply = config.forcings.supply(store, domain)
    check_variables(domain, supply)
    if isinstance(config, RefineStage):
        check_fields(domain.outputs, config.equation.build())
    ensemble = None if isinstance(config, RefineStage) else config.ensemble
    check_history(domain, found, store, plan, ensemble)
    for about, text in concerns(domain, found, store, plan, config.mode):
        yield CheckFinding(about, f"{label}: {text}")


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
