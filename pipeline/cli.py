"""Command line: each command loads a configuration and calls one stage; heavy imports wait until then."""

import errno
import faulthandler
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from typer.core import TyperGroup
from typer.main import get_command

import pelagos
from pelagos.pipeline.runs.commands import (
    PARALLEL,
    STAGES,
    command_of,
    config_class,
    known_command,
    stage_module,
)
from pelagos.preprocessing.errors import ConfigError, PelagosError, StoppedError, TemporaryError, is_temporary

if TYPE_CHECKING:
    from pelagos.pipeline.tracking.tracker import TrackingConfig

HELP = """A foundation-model pipeline for partial differential equations and weather.

Every stage is `pelagos COMMAND CONFIG [KEY=VALUE ...]`: CONFIG is a YAML file or the name of a
shipped one, KEY=VALUE sets a value in it. The quickest way to see all of it: `pelagos demo`."""

INTERRUPTED = 130
_PATH_FAULTS = (
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
    errno.ENAMETOOLONG,
)
"""Errors of a path that the user gave."""
FAULT = 70
"""The exit code of a fault of Pelagos or the machine (EX_SOFTWARE of sysexits.h), after which a job may try again."""

app = typer.Typer(
    help=HELP,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
models = typer.Typer(
    help="Models and the versions of them in the registry.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(models, name="models")
ConfigArgument = Annotated[
    str, typer.Argument(metavar="CONFIG", help="A YAML file or the name of a shipped one.")
]
OverridesArgument = Annotated[
    list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Values to set, keys with dots.")
]
TrustOption = Annotated[
    list[str] | None,
    typer.Option(metavar="MODULE:CLASS", help="A class of yours that a model or store may name; repeatable."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


@contextmanager
def reported() -> Iterator[None]:
    """Turn errors into exit codes (CONTRIBUTING.md); what the user can fix is a message without a traceback."""
    from pelagos.preprocessing.safety.credentials import redacted_logs

    try:
        with redacted_logs():
            yield
        # Flushed here, where a reader that is gone can still be told from a fault.
        sys.stdout.flush()
    except PelagosError as error:
        if isinstance(error, StoppedError):
            if os.environ.get("RANK", "0") == "0":
                _tell(f"{error}; the same command continues")
        else:
            _tell(f"error: {error}")
        passing = error.exit_code == PelagosError.exit_code and is_temporary(error)
        _leave(TemporaryError.exit_code if passing else error.exit_code)
    except BrokenPipeError:
        # The reader has seen enough, as in `| head`; Python would try to write the rest at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _leave(1)
    except KeyboardInterrupt:
        print("interrupted; finished work is kept, the same command continues", file=sys.stderr)
        _leave(INTERRUPTED)
    except Exception as error:
        _leave(_fault(error))


def _fault(error: Exception) -> int:
    """Report what is no PelagosError; returns the exit code."""
    where = f"{error.filename}: " if isinstance(error, OSError) and error.filename else ""
    said = (error.strerror if isinstance(error, OSError) else "") or error
    if is_temporary(error):
        _tell(
            f"error: {where}{said}; finished work is kept: once this has passed, the same command continues"
        )
        return TemporaryError.exit_code
    if isinstance(error, OSError) and error.errno in _PATH_FAULTS:
        _tell(f"error: {where}{said}")
        return 1
    if isinstance(error, MemoryError):
        _tell(
            f"error: out of memory ({error}): a file may claim more than it holds, or the machine is too small"
        )
        return 1
    _tell("".join(traceback.format_exception(error)))
    return FAULT


def _tell(text: str) -> None:
    """Say something on the standard error, without the credentials that a library's message may repeat."""
    from pelagos.preprocessing.safety.credentials import redacted

    print(redacted(text), file=sys.stderr)


def _leave(code: int) -> NoReturn:
    """Exit; one of several processes leaves at once, since its peers may be waiting for it in a collective."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    raise typer.Exit(code)


def run_stage(
    command: str,
    config: str,
    overrides: list[str] | None,
    processes: int = 1,
    trust: list[str] | None = None,
) -> None:
    """Load the configuration of a stage and run it, in one or several processes."""
    from pelagos.pipeline.runs.closing_lines import closing_lines, time_of_end
    from pelagos.pipeline.runs.configuration import load

    with reported(), _trusted(trust, overrides):
        # Here, too, where other processes load it: errors are reported once, before any of them starts.
        loaded = load(config, overrides or [], config_class(command))
        if processes > 1:
            from pelagos.pipeline.cluster.launch import run_processes

            run_processes([command, config, *(overrides or []), *_trust_options(trust)], processes)
        else:
            before = time_of_end(loaded)
            stage_module(command).run(loaded)
            if os.environ.get("RANK", "0") == "0":
                again = command in PARALLEL and 0 < before == time_of_end(loaded)
                for line in closing_lines(command, loaded, again=again):
                    print(line)


def _trusted(trust: list[str] | None, overrides: list[str] | None = None) -> AbstractContextManager[None]:
    """The block in which files may name the classes that the command line names."""
    from pelagos.pipeline.runs.configuration import named_classes
    from pelagos.preprocessing.safety.trust import trusting

    return trusting([*(trust or []), *named_classes(overrides or [])])


def _trust_options(trust: list[str] | None) -> list[str]:
    return [word for path in trust or [] for word in ("--trust", path)]


def _command(name: str) -> Callable[..., None]:
    if name in PARALLEL:

        def parallel(
            config: ConfigArgument,
            overrides: OverridesArgument = None,
            processes: Annotated[int, typer.Option(min=1, help="Processes on this machine.")] = 1,
            trust: TrustOption = None,
        ) -> None:
            run_stage(name, config, overrides, processes, trust)

        return parallel

    if name == "demo":

        def demo(overrides: OverridesArgument = None) -> None:
            run_stage(name, name, overrides)

        return demo

    if name == "build":

        def build(
            config: ConfigArgument,
            overrides: OverridesArgument = None,
            strict: Annotated[
                bool, typer.Option("--strict", help="Refuse whatever would be assumed and is not accepted.")
            ] = False,
            trust: TrustOption = None,
        ) -> None:
            asked = [*(overrides or []), *(["strict=true"] if strict else [])]
            run_stage(name, config, asked, trust=trust)

        return build

    def single(
        config: ConfigArgument, overrides: OverridesArgument = None, trust: TrustOption = None
    ) -> None:
        run_stage(name, config, overrides, trust=trust)

    return single


for _name, _stage in STAGES.items():
    # A promotion is about versions, and stands among what else is done with them.
    (models if _name == "promote" else app).command(
        _name, help=_stage.help, epilog=f"What the keys of its configuration mean: pelagos help {_name}"
    )(_command(_name))
# Where people look for it first, though it is listed among what is done with versions.
app.command("promote", hidden=True, help=STAGES["promote"].help)(_command("promote"))


@app.command(short_help="Print a configuration as it is understood, or all errors in it.")
def check(
    config: ConfigArgument,
    overrides: OverridesArgument = None,
    processes: Annotated[int, typer.Option(min=1, help="That a training run will have.")] = 1,
    deep: Annotated[bool, typer.Option("--deep", help="Take two real steps of the worst case.")] = False,
    gpus: Annotated[
        int | None, typer.Option(min=1, help="Estimate the run on so many GPUs, of which none is needed.")
    ] = None,
    memory: Annotated[float, typer.Option(min=1, help="With --gpus: of each [GB].")] = 80.0,
    gpus_per_node: Annotated[int, typer.Option(min=1, help="With --gpus: of a machine.")] = 8,
    utilisation: Annotated[
        float, typer.Option(min=0.01, max=1, help="With --gpus: share of the peak that is reached.")
    ] = 0.35,
    as_json: JsonOption = False,
    trust: TrustOption = None,
) -> None:
    """Print the resolved configuration, or every error in it; of training also what it reads and takes."""
    from pelagos.pipeline.runs.configuration import load

    with reported(), _trusted(trust, overrides):
        command = command_of(config)
        loaded = load(config, overrides or [], config_class(command))
        from pelagos.pipeline.checking import check as checks

        if command in PARALLEL:
            from pelagos.pipeline.checking.gpu_target import GpuTarget

            target = gpus and GpuTarget(
                gpus=gpus, memory=memory, per_node=gpus_per_node, utilisation=utilisation
            )
            found = checks.findings(loaded, processes, deep=deep, target=target or None)
            checks.report(loaded, found, as_json=as_json)
            return
        if deep or gpus:
            option = "--deep takes steps" if deep else "--gpus estimates steps"
            raise ConfigError(f"{option} of training; {config} is for {command}")
        from pelagos.pipeline.checking.forecast_check import check_forecasts

        checks.report(loaded, check_forecasts(loaded), as_json=as_json)


def _help_page(command: str) -> str:
    """What `pelagos COMMAND --help` says, empty where there is no such command."""
    root = get_command(app)
    assert isinstance(root, TyperGroup), "an app of several commands is a group"
    context = root.make_context("pelagos", [], resilient_parsing=True)
    found = root.commands.get(command)
    return found.get_help(found.make_context(command, [], context, resilient_parsing=True)) if found else ""


@app.command("help", short_help="Say what the keys of a configuration mean.")
def help_(
    command: Annotated[str, typer.Argument(metavar="COMMAND", help="Whose configuration.")] = "",
    key: Annotated[str, typer.Argument(metavar="KEY", help="Of the configuration, with dots.")] = "",
) -> None:
    """Say what the keys of a command's configuration mean, or one of them."""
    with reported():
        if not command:
            print("".join(f"pelagos help {name:10} {stage.help}\n" for name, stage in STAGES.items()), end="")
            print("\nThese take a configuration; pelagos --help lists the others.")
            return
        if command not in STAGES and not key and (page := _help_page(command)):
            print(page)
            return
        from pelagos.pipeline.runs.key_help import describe_keys

        print(describe_keys(command, config_class(known_command(command)), key))


@app.command(short_help="Submit a stage to SLURM.")
def submit(
    config: ConfigArgument,
    overrides: OverridesArgument = None,
    slurm: Annotated[str, typer.Option(metavar="FILE", help="YAML of what to ask of SLURM.")] = "",
    nodes: Annotated[int | None, typer.Option(help="Machines.")] = None,
    tasks_per_node: Annotated[int | None, typer.Option(help="Processes on each; as many as GPUs.")] = None,
    gpus: Annotated[int | None, typer.Option(help="GPUs of each node.")] = None,
    time: Annotated[str | None, typer.Option(help="Limit, such as 1-12:00:00.")] = None,
    partition: Annotated[str | None, typer.Option(help="To run in.")] = None,
    account: Annotated[str | None, typer.Option(help="To charge.")] = None,
    parts: Annotated[
        int | None, typer.Option(help="Tasks of an array that share a build, an evaluation or a sweep.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the job, submit nothing.")] = False,
    trust: TrustOption = None,
) -> None:
    """Submit a stage to SLURM; it goes on by itself after a time limit, a preemption or a dead node.

    Everything else that SLURM can be asked is set in FILE, or by slurm.KEY=VALUE.
    """
    options = {
        "nodes": nodes,
        "tasks_per_node": tasks_per_node,
        "gpus": gpus,
        "time": time,
        "partition": partition,
        "account": account,
        "parts": parts,
    }
    with reported(), _trusted(trust, overrides):
        from pelagos.pipeline.cluster import submit as submission
        from pelagos.pipeline.runs.configuration import load

        command = command_of(config)
        asked, others = submission.read_slurm_config(slurm, overrides or [], options)
        loaded = load(config, others, config_class(command))
        job = submission.plan_job(command, loaded, asked, _trust_options(trust))
        if dry_run:
            print(job.describe(), end="")
        else:
            print(f"queued {', '.join(submission.submit(job))}: {job.script}, output in {job.base}-JOB.log")


@app.command("import")
def import_(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="A folder as it was published.")],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where the model shall be.")],
    facts: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A YAML file of channels, their scales and time scales."),
    ] = None,
) -> None:
    """Turn published weights, Poseidon's or CREDIT's, into a model."""
    with reported():
        from pelagos.pipeline.stages.import_weights import convert

        print(f"model: {convert(source, folder, facts)}")
        print(f"next: pelagos forecast CONFIG model={folder}, or pelagos finetune CONFIG model={folder}")


def _require_store(path: str) -> None:
    from pelagos.preprocessing.inspection.inspect_path import require_store

    require_store(path)


StoreArgument = Annotated[
    str, typer.Argument(metavar="STORE", help="A Zarr store that `pelagos build` wrote, or its URL.")
]


ArchiveArgument = Annotated[
    str,
    typer.Argument(
        metavar="PATH",
        help="A store, model, run, checkpoint or forecast, or an archive: a file, folder or quoted pattern.",
    ),
]
UriOption = Annotated[
    str, typer.Option("--uri", metavar="URI", help="Of the registry; runs/mlflow.db here by default.")
]


@app.command(short_help="Say what a store, model, run, forecast or archive is.")
def inspect(
    path: ArchiveArgument,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Of the configuration to build an archive."),
    ] = None,
    as_json: JsonOption = False,
    uri: UriOption = "",
) -> None:
    """Say what is in a store, model, run or forecast, or what an archive is, with a configuration to build it."""
    with reported():
        from pelagos.pipeline.checking.inspect_command import inspected

        print(inspected(path, overrides or [], _tracking(uri), as_json=as_json))


@app.command(short_help="Write configurations to train on a store and to score.")
def init(
    store: StoreArgument,
    model: Annotated[
        str, typer.Option("--model", metavar="MODEL", help="To fine-tune: a folder, or models:/NAME@ALIAS.")
    ] = "",
    folder: Annotated[Path, typer.Option(metavar="FOLDER", help="Where to write.")] = Path(),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files of these names.")] = False,
    uri: UriOption = "",
    trust: TrustOption = None,
) -> None:
    """Write configurations to train on a store and to score the result, with the reasons for what they say."""
    with reported(), _trusted(trust):
        _require_store(store)
        from pelagos.pipeline.checking.init_command import write_configurations

        written = write_configurations(store, model, folder, _tracking(uri), overwrite=overwrite)
        for file in written.values():
            print(f"wrote {file}")
        print(f"next: pelagos check {next(iter(written.values()))}")
        for command, file in written.items():
            print(f"      pelagos {command} {file}")


@app.command()
def plot(
    path: Annotated[str, typer.Argument(metavar="STORE_OR_FORECAST", help="A store, or forecasts.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", metavar="FILE", help="PNG, SVG or PDF; NAME.png here by default."),
    ] = None,
    variable: Annotated[
        list[str] | None, typer.Option(metavar="KEY", help="To draw, such as velocity_x; repeatable.")
    ] = None,
    time: Annotated[
        str, typer.Option(metavar="N,N,...", help="Numbers of frames, from 0; -1 is the last.")
    ] = "",
    trajectory: Annotated[int, typer.Option(metavar="N", help="Its number, from 0.")] = 0,
) -> None:
    """Draw frames of a store or a forecast."""
    with reported():
        from pelagos.pipeline.stages import plot as plots

        frames = plots.numbers(time, "--time") if time else []
        print(f"wrote {plots.plot(path, output, variable or [], frames, trajectory)}")


@app.command()
def verify(
    store: StoreArgument,
    sha256: Annotated[bool, typer.Option("--sha256", help="Compare SHA-256 as well as CRC-32C.")] = False,
) -> None:
    """Check every shard of a store against its checksum."""
    with reported():
        _require_store(store)
        from pelagos.preprocessing.errors import DamagedFileError
        from pelagos.preprocessing.store.manifest import verify as damages
        from pelagos.preprocessing.store.store import store_location

        found = damages(store_location(store), sha256=sha256)
        if found:
            listing = "\n".join(f"  {damage}" for damage in found)
            # Only the manifest knows what a store was built from.
            lost = any(damage.kind == "manifest" for damage in found)
            advice = "build it again with overwrite=true" if lost else _repair_advice(store)
            raise DamagedFileError(f"{store}: {len(found)} fault(s)\n{listing}\n{advice}")
        print(f"{store}: every shard is as it was written")


def _repair_advice(store: str) -> str:
    from pelagos.preprocessing.safety.trust import class_paths
    from pelagos.preprocessing.store.manifest import read_manifest
    from pelagos.preprocessing.store.store import store_location

    named = class_paths(read_manifest(store_location(store)).config)
    advice = " ".join(["mend with: pelagos repair", store, *_trust_options(named)])
    return f"{advice}, if you know that code: it would be run to read the sources" if named else advice


@app.command()
def repair(
    store: StoreArgument,
    source: Annotated[
        list[str] | None,
        typer.Option(metavar="OLD=NEW", help="Where a source, or a folder of sources, is now; repeatable."),
    ] = None,
    trust: TrustOption = None,
) -> None:
    """Build the damaged shards of a store anew from its sources."""
    with reported(), _trusted(trust):
        _require_store(store)
        from pelagos.preprocessing.build.repair import repair as mend
        from pelagos.preprocessing.store.store import store_location

        pairs = [text.partition("=") for text in source or []]
        if wrong := [
            text for text, pair in zip(source or [], pairs, strict=True) if not (pair[0] and pair[2])
        ]:
            raise ConfigError(
                f"--source {wrong[0]}: OLD=NEW would be right, where a source was and where it is"
            )
        mended = mend(store_location(store), {old: new for old, _, new in pairs})
        print(
            f"{store}: {len(mended)} file(s) built anew, each as it was"
            if mended
            else f"{store}: nothing to mend"
        )


@app.command(short_help="Say how two stores differ.")
def compare(
    store: StoreArgument,
    other: Annotated[str, typer.Argument(metavar="OTHER", help="Another store.")],
    tolerance: Annotated[
        float, typer.Option(min=0, help="Standard deviations of a variable by which its values may differ.")
    ] = 0.0,
) -> None:
    """Say whether two stores have the same content, and where they differ; exits with 1 if they do."""
    with reported():
        from pelagos.preprocessing.build.compare_stores import compare as differences

        found = differences(store, other, tolerance)
        print(found)
    if not found.same:
        raise typer.Exit(1)


@app.command(short_help="Draw reports anew, or compare evaluations by paired tests.")
def report(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN",
            help="Folders that `pelagos evaluate` wrote; before them `compare`, to hold them side by side.",
        ),
    ],
    output: Annotated[Path, typer.Option(metavar="FILE", help="The page of a comparison.")] = Path(
        "comparison.html"
    ),
) -> None:
    """Draw the report of an evaluation anew, or `compare` several of them side by side with paired tests."""
    with reported():
        from pelagos.pipeline.stages.draw_report import draw, draw_comparison

        if runs[0] == "compare":
            print(
                f"wrote {draw_comparison([Path(run) for run in runs[1:]], output)}, and its numbers and tests"
            )
            print(f"      as {output.with_suffix('.json')}")
            return
        for run in runs:
            print(f"wrote {draw(Path(run))}")


ModelArgument = Annotated[
    str, typer.Argument(metavar="MODEL", help="A model's folder, or models:/NAME@ALIAS of the registry.")
]


def _tracking(uri: str) -> "TrackingConfig":
    from pelagos.pipeline.runs.configuration import validate
    from pelagos.pipeline.tracking.tracker import TrackingConfig

    return validate({"uri": uri} if uri else {}, TrackingConfig, "--uri")


@models.command("list")
def list_models(
    name: Annotated[str, typer.Argument(metavar="NAME", help="One model; all by default.")] = "",
    uri: UriOption = "",
    as_json: JsonOption = False,
) -> None:
    """List the registered versions and their aliases."""
    with reported():
        from pelagos.pipeline.stages import model_versions

        found = model_versions.listing(_tracking(uri), name)
        print(json.dumps(list(map(model_versions.facts, found))) if as_json else model_versions.table(found))


@models.command("show", short_help="Say what a model is.")
def show_model(model: ModelArgument, uri: UriOption = "", as_json: JsonOption = False) -> None:
    """Say what a model is: network, variables, lead times, history; and what the registry knows of it."""
    with reported():
        import yaml

        from pelagos.pipeline.stages.model_versions import description

        known = description(model, _tracking(uri))
        print(json.dumps(known) if as_json else yaml.safe_dump(known, sort_keys=False, allow_unicode=True))


@models.command("diff", short_help="Say how two models differ.")
def diff_models(
    model: ModelArgument,
    other: Annotated[str, typer.Argument(metavar="OTHER", help="Another model.")],
    uri: UriOption = "",
    as_json: JsonOption = False,
) -> None:
    """Say how two models differ; exits with 1 if they do."""
    with reported():
        from pelagos.pipeline.stages.model_versions import describe_differences, differences

        found = differences(model, other, _tracking(uri))
        print(json.dumps(found) if as_json else describe_differences(found))
    if found:
        raise typer.Exit(1)


@models.command("verify")
def verify_models(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="As elsewhere, or models:/NAME for all its versions.")
    ],
    uri: UriOption = "",
    trust: TrustOption = None,
) -> None:
    """Compare every byte of a model with its checksums, and load it."""
    with reported(), _trusted(trust):
        from pelagos.pipeline.stages.model_versions import verify as verified

        for reference in verified(model, _tracking(uri)):
            print(f"{reference}: every file is as it was written")


@models.command("export", short_help="Write a model in the layout of others.")
def export_model(
    model: ModelArgument,
    target: Annotated[
        Path, typer.Argument(metavar="TARGET", help="The folder to write; a file of safetensors.")
    ],
    to: Annotated[
        str, typer.Option("--to", metavar="LAYOUT", help="huggingface, safetensors, poseidon or credit.")
    ] = "huggingface",
    uri: UriOption = "",
    trust: TrustOption = None,
) -> None:
    """Write a model in the layout of Hugging Face, Poseidon or CREDIT, or as one file of safetensors."""
    with reported(), _trusted(trust):
        from pelagos.pipeline.stages.export_weights import export, layout_of

        print(f"wrote {export(model, target, layout_of(to), _tracking(uri))}, in the layout of {to}")
        if to == "huggingface":
            print(f"next: pelagos models pull {target} FOLDER, or in Python pelagos.load({str(target)!r})")
        elif to != "safetensors":
            print(
                f"next: pelagos import {target} FOLDER --facts {target / 'facts.yaml'} makes a model of it again"
            )


RepositoryArgument = Annotated[str, typer.Argument(metavar="REPOSITORY", help="On Hugging Face: OWNER/NAME.")]
PublishedArgument = Annotated[
    str,
    typer.Argument(metavar="REPOSITORY", help="On Hugging Face, OWNER/NAME; or a folder in that layout."),
]
RevisionOption = Annotated[str, typer.Option(metavar="NAME", help="A branch, tag or commit.")]


@models.command("push", short_help="Publish a model on Hugging Face.")
def push_model(
    model: ModelArgument,
    repository: RepositoryArgument,
    revision: RevisionOption = "main",
    public: Annotated[
        bool, typer.Option("--public", help="Make a new repository that all can read.")
    ] = False,
    uri: UriOption = "",
) -> None:
    """Publish a model on Hugging Face, with its card and checksums; the extra `hub`."""
    with reported():
        from pelagos.pipeline.stages.model_hub import push

        print(f"published: {push(model, repository, revision, _tracking(uri), public=public)}")


@models.command("pull", short_help="Fetch a published model of Pelagos.")
def pull_model(
    repository: PublishedArgument,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where the model shall be.")],
    revision: RevisionOption = "main",
) -> None:
    """Fetch a model of Pelagos from Hugging Face and compare it with its checksums; the extra `hub`."""
    with reported():
        from pelagos.pipeline.stages.model_hub import pull

        print(f"model: {pull(repository, folder, revision)}")
        print(
            f"next: pelagos inspect {folder} says what it is, pelagos forecast CONFIG model={folder} uses it"
        )


@app.callback(invoke_without_command=True)
def version(
    show: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
) -> None:
    """Answer to `pelagos --version`."""
    if show:
        print(f"pelagos {pelagos.__version__}")
        raise typer.Exit


def main() -> None:
    """The entry point of the `pelagos` command."""
    if sys.stderr is not None:
        # If a disk fails under a mapped file, the system kills the process; this prints where it was.
        faulthandler.enable()
    # For all processes that this one starts, those of Dask and multiprocessing too: no module from the working folder.
    os.environ["PYTHONSAFEPATH"] = "1"
    app()
