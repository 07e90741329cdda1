"""External code: the module of a user's own network, carried by a version that MLflow serves."""

import shutil
import sys
from importlib.metadata import distribution, packages_distributions
from pathlib import Path


def carry_module(path: str, folder: Path) -> list[str]:
    """Make a class available beside a folder of code: copies its module or package, or names what brings it.

    Args:
        path: of a class that has been imported, as `package.module:Class`.
        folder: of code, which MLflow puts on the path.

    Returns:
        The requirements, pinned, where it comes from an installed package; none where it was copied.
    """
    name = path.partition(":")[0].partition(".")[0]
    # What is installed from a folder, as in development, has a `direct_url.json`: no index has it.
    installed = [distribution(one) for one in packages_distributions().get(name, [])]
    if found := [one for one in installed if one.read_text("direct_url.json") is None]:
        return [f"{one.name}=={one.version}" for one in found]
    module = sys.modules[name]
    if module.__file__ is not None and Path(module.__file__).name != "__init__.py":
        shutil.copyfile(module.__file__, folder / Path(module.__file__).name)
    else:
        ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
        shutil.copytree(module.__path__[0], folder / name, ignore=ignored)
    return []
