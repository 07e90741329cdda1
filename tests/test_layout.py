"""The house: what is where, and what must not be loaded."""

import subprocess
import sys
from pathlib import Path

import pytest

import pelagos

ROOT = Path(pelagos.__file__).resolve().parent.parent
PACKAGES = ("configs", "evaluation", "models", "pipeline", "preprocessing")


def test_the_namespace_holds_one_file_and_five_relative_links() -> None:
    entries = {path.name: path for path in (ROOT / "pelagos").iterdir() if path.name != "__pycache__"}
    assert set(entries) == {"__init__.py", *PACKAGES}
    for package in PACKAGES:
        assert entries[package].is_symlink()
        assert str(entries[package].readlink()) == f"../{package}"


def test_no_module_is_named_for_being_miscellaneous_or_like_one_of_the_standard_library() -> None:
    names = {path.stem for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
    assert not names & {"utils", "helpers", "common", "misc"}
    assert not names & (set(sys.stdlib_module_names) - {"__init__", "__main__"})


@pytest.mark.parametrize(
    ("code", "forbidden"),
    [
        ("import pelagos.pipeline.cli", ("torch", "mlflow", "deepspeed", "xarray")),
        ("import pelagos.models.networks.network", ("dask", "zarr", "mlflow", "deepspeed")),
    ],
)
def test_heavy_packages_load_only_where_they_are_used(code: str, forbidden: tuple[str, ...]) -> None:
    check = f"{code}; import sys; print(sorted(set(sys.modules) & {set(forbidden)!r}))"
    found = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True).stdout
    assert found.strip() == "[]"
