"""The house: what is where, and what must not be loaded."""

import ast
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

import pelagos

ROOT = Path(pelagos.__file__).resolve().parent.parent
PACKAGES = ("configs", "evaluation", "models", "pipeline", "preprocessing")


MODULES = [
    path
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
    if not path.name.startswith("__")
]
HEAVY = {"dask", "deepspeed", "h5py", "mlflow", "numba", "scipy", "torch", "xarray", "zarr"}
ENTRIES = {"preprocessing": (62, 21), "models": (40, 11), "pipeline": (45, 9)}
"""Modules in a package's folder before there were rooms, and the modules and rooms that it may have."""
TOPICS = {
    "models/networks/scot/test_kernels.py",
    "pipeline/cluster/test_slurm.py",
    "pipeline/stages/test_crash.py",
    "pipeline/stages/test_sole_writer.py",
    "pipeline/test_bad_input.py",
    "pipeline/test_docs.py",
    "pipeline/test_inspect.py",
    "pipeline/test_remote.py",
    "pipeline/test_wrong_input.py",
    "pipeline/training/test_crash.py",
    "pipeline/training/test_networks.py",
    "pipeline/training/test_online.py",
    "pipeline/training/test_resume.py",
    "preprocessing/build/test_crash.py",
    "preprocessing/build/test_shared_data.py",
    "preprocessing/physics/test_reference.py",
    "preprocessing/sources/test_remote.py",
    "preprocessing/store/test_cf_conventions.py",
    "security/test_absurd_claims.py",
    "security/test_foreign_code.py",
    "security/test_working_folder.py",
    "test_configs.py",
    "test_end_to_end.py",
    "test_layout.py",
    "test_notebook.py",
    "test_wheel.py",
}
"""Tests of what several modules do together."""


@dataclass(frozen=True)
class Load:
    """What an import may load.

    Attributes:
        name: for the reader.
        code: that imports.
        of: the package whose modules are counted.
        before: modules, and those of sources, before there were rooms.
        most: modules that it may load.
        heavy: packages of others that it may load.
    """

    name: str
    code: str
    of: str
    before: tuple[int, int]
    most: int
    heavy: frozenset[str]


LOADS = [
    Load("the root", "import pelagos; dir(pelagos)", "pelagos", before=(0, 0), most=0, heavy=frozenset()),
    Load(
        "losses",
        "import pelagos.models.losses",
        "pelagos.preprocessing",
        before=(66, 32),
        most=6,
        heavy=frozenset({"torch"}),
    ),
    Load(
        "loader",
        "import pelagos.preprocessing.loading.loader",
        "pelagos.preprocessing",
        before=(98, 32),
        most=33,
        heavy=frozenset({"numba", "scipy", "torch", "zarr"}),
    ),
    Load(
        "networks",
        "import pelagos.models.networks.network",
        "pelagos.preprocessing",
        before=(2, 0),
        most=4,
        heavy=frozenset({"scipy", "torch"}),
    ),
    Load(
        "--help",
        "import sys; sys.argv[1:] = ['--help']\ntry:\n    from pelagos.pipeline.cli import main; main()\n"
        "except SystemExit:\n    pass\nimport sys",
        "pelagos",
        before=(2, 0),
        most=3,
        heavy=frozenset(),
    ),
]


def test_the_namespace_holds_its_root_and_five_relative_links() -> None:
    entries = {path.name: path for path in (ROOT / "pelagos").iterdir() if path.name != "__pycache__"}
    assert set(entries) == {"__init__.py", "py.typed", *PACKAGES}
    for package in PACKAGES:
        assert entries[package].is_symlink()
        assert str(entries[package].readlink()) == f"../{package}"


def test_no_module_is_named_for_being_miscellaneous_or_like_one_of_the_standard_library() -> None:
    names = {path.stem for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
    assert not names & {"utils", "helpers", "common", "misc"}
    assert not names & (set(sys.stdlib_module_names) - {"__init__", "__main__"})


def test_every_module_has_a_name_of_its_own() -> None:
    modules = Counter(path.stem for path in MODULES)
    # Each family of networks has its own loader of published weights.
    assert [name for name, number in modules.items() if number > 1] == ["compat"]


def test_every_class_has_a_name_of_its_own() -> None:
    classes = Counter(
        node.name
        for path in MODULES
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ClassDef)
    )
    assert not [name for name, number in classes.items() if number > 1]


def test_every_test_file_is_about_a_module_or_a_named_topic() -> None:
    mirrored = {str(path.parent.relative_to(ROOT) / f"test_{path.name}") for path in MODULES}
    files = {str(path.relative_to(ROOT / "tests")) for path in (ROOT / "tests").rglob("test_*.py")}
    assert files - mirrored == TOPICS


def test_no_folder_shows_more_than_a_reader_takes_in_at_once() -> None:
    for package, (before, most) in ENTRIES.items():
        entries = [path for path in (ROOT / package).iterdir() if not path.name.startswith("__")]
        print(f"{package}: {len(entries)} modules and rooms, {before} modules before there were rooms")
        assert len(entries) <= most, package


@pytest.mark.parametrize("case", LOADS, ids=lambda case: case.name)
def test_importing_loads_no_more_than_it_needs(case: "Load") -> None:
    report = "import sys; print(*sys.modules, file=sys.stderr)"
    result = subprocess.run(
        [sys.executable, "-c", f"{case.code}; {report}"], capture_output=True, text=True, check=True
    )
    loaded = set(result.stderr.splitlines()[-1].split())
    ours = [name for name in loaded if name.startswith(f"{case.of}.") and not _is_package(name)]
    sources = [name for name in ours if ".sources." in name]
    heavy = sorted(loaded & HEAVY)
    print(
        f"{case.name}: {len(ours)} modules of {case.of}, {len(sources)} of them sources"
        f" ({case.before[0]} and {case.before[1]} before there were rooms); {', '.join(heavy) or 'nothing heavy'}"
    )
    assert len(ours) <= case.most
    assert not sources
    assert not set(heavy) - case.heavy


def _is_package(name: str) -> bool:
    return (ROOT.joinpath(*name.split(".")[1:]) / "__init__.py").is_file()
