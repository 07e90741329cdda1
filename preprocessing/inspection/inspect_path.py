"""Inspecting a path: what a store holds, on one screen of text, or what an archive seems to be."""

from itertools import product
from pathlib import Path
from typing import Any

from pelagos.preprocessing.assumptions import describe
from pelagos.preprocessing.build.file_feeds import describe_feeds
from pelagos.preprocessing.build.write_part import PLAN
from pelagos.preprocessing.errors import DataError, MissingFileError, PelagosError
from pelagos.preprocessing.files.location import Url
from pelagos.preprocessing.inspection.proposal import describe_axis, proposal_of, propose
from pelagos.preprocessing.inspection.store_facts import (
    missing_share,
    roundings,
    store_facts,
    variable_statistics,
)
from pelagos.preprocessing.store.manifest import MANIFEST, Manifest, read_manifest
from pelagos.preprocessing.store.shard_layout import read_metadata
from pelagos.preprocessing.store.store import Store, open_store, store_location

_WHAT_NEXT = """
pelagos inspect STORE                        one of them: variables, statistics, splits, sources
pelagos verify STORE                         whether its bytes are still those that were written
pelagos compare STORE OTHER                  whether two stores have the same content
pelagos plot STORE                           pictures of some frames
pelagos init STORE                           configurations to train on it and to score the result
pelagos pretrain CONFIG data.0.path=STORE    train on it (further ones are data.1.path, ...)
pelagos evaluate CONFIG store=STORE          score models on it"""


def inspect(path: Path | Url | str) -> str:
    """A description of what is at a path.

    For a store: dimensions, variables with units and statistics, splits, assumptions, size and provenance. For a
    folder of stores: a list of them. For anything else: the format that it seems to have, and a configuration for
    `pelagos build`.

    Raises:
        MissingFileError: nothing is there, or a store that is not complete.
        DamagedFileError: a file is missing or damaged.
        DataError: no format recognises what is there.
    """
    whole = store_location(path)
    if not is_store(whole):
        if isinstance(whole, Path) and (stores := _stores_in(whole)):
            return _list(whole, stores)
        return propose(str(path)).rstrip("\n")
    store = open_store(whole)
    manifest = read_manifest(store.path)
    sections = (
        _head(store, manifest),
        _variables(store),
        _rounding(store, manifest),
        _splits(store),
        _assumptions(store),
        _provenance(manifest),
    )
    return "\n\n".join("\n".join(section) for section in sections if section)


def facts(path: Path | Url | str) -> dict[str, Any]:
    """The same for JSON; raises as `inspect` does."""
    whole = store_location(path)
    if is_store(whole):
        store = open_store(whole)
        return store_facts(store, read_manifest(store.path))
    if isinstance(whole, Path) and (stores := _stores_in(whole)):
        return {"type": "stores", "path": str(whole), "stores": [str(store) for store in stores]}
    return proposal_of(str(path)).facts()


def require_store(path: Path | Url | str) -> None:
    """Refuse what is there and is no store, damaged or not.

    Raises:
        DataError: it is something else.
    """
    place = store_location(path)
    if not isinstance(place, Path) or not place.exists() or is_store(place):
        return
    # A store that has lost its manifest is still known by its metadata.
    if not (place / "zarr.json").is_file() or (place / "lead_time").exists():
        raise DataError(f"{path} is no store; pelagos inspect {path} says what it is")


def is_store(path: Path | Url) -> bool:
    """Whether a store is at the path, complete or not."""
    if isinstance(path, Path):
        return any(one.is_dir() for one in (path / MANIFEST.parent, path.parent / f"{path.name}.building"))
    try:
        read_manifest(path)
    except MissingFileError:
        return False
    return True


def _stores_in(folder: Path) -> list[Path]:
    """The stores, complete or not, in a folder or one level deeper, as `pelagos build` arranges them by dataset."""
    written = [
        file.parents[1]
        for depth, name in product(("*", "*/*"), (MANIFEST, PLAN))
        for file in folder.glob(f"{depth}/{name}")
    ]
    return sorted({path.with_name(path.name.removesuffix(".building")) for path in written})


def _list(folder: Path, stores: list[Path]) -> str:
    lines = [f"{folder} holds stores of Pelagos:", ""]
    for path in stores:
        try:
            about = _summary(open_store(path))
        except PelagosError as error:
            about = str(error).removeprefix(f"{path}: ")
        lines += [str(path), f"    {about}"]
    return "\n".join(lines) + "\n" + _WHAT_NEXT


def _summary(store: Store) -> str:
    height, width = store.grid.shape
    # Trajectories may end early, and then the range of lengths is told.
    least = store.num_times if store.present is None else store.present.sum(axis=1).min()
    frames = f"{store.num_times}" if least == store.num_times else f"{least} to {store.num_times}"
    return (
        f"{store.dataset} {store.version}: {store.num_trajectories} trajectories of {frames} "
        f"frames, {len(store.variables)} channels, {height} x {width} points"
    )


def _head(store: Store, manifest: Manifest) -> list[str]:
    size = sum(file.bytes for file in manifest.files.values())
    sides = f"y {', '.join(store.grid.boundary_y)}; x {', '.join(store.grid.boundary_x)}"
    lines = [
        _summary(store),
        f"time step   {store.dt:g}{'' if store.time_units == '1' else ' ' + store.time_units}",
        *_dates(store),
        f"grid        {store.grid.kind}, beyond the edges: {sides}",
        *(
            f"{axis:11} {describe_axis(values)}"
            for axis, values in (("y", store.grid.y), ("x", store.grid.x))
        ),
        *_levels(store),
        f"size        {size / 1e6:.1f} MB in {len(manifest.files)} files",
        f"scalars     {', '.join(store.params) or 'none'}",
    ]
    return [*lines, f"missing     {store.num_missing} values"] if store.num_missing else lines


def _dates(store: Store) -> list[str]:
    attrs = read_metadata(store.path)["attributes"]
    if "time_coverage_start" not in attrs:
        return []
    first, last = (attrs[f"time_coverage_{end}"].removesuffix("Z") for end in ("start", "end"))
    return [f"dates       {first} to {last}"]


def _levels(store: Store) -> list[str]:
    """How many levels there are, and what they are: pressures, heights, or planes of 3-D fields."""
    found = [variable.level for variable in store.variables if variable.level is not None]
    if not found:
        return []
    attrs = store.level
    what = attrs.get("long_name") or attrs.get("standard_name", "")
    units = attrs.get("units", "1")
    text = f"{len(set(found))} from {min(found):g} to {max(found):g}{'' if units == '1' else ' ' + units}"
    sides = f"; beyond: {attrs['boundary'].replace(',', ', ')}" if "boundary" in attrs else ""
    return [f"levels      {text}{f', {what}' if what else ''}{sides}"]


def _variables(store: Store) -> list[str]:
    names = [len(variable.key) for variable in (*store.variables, *store.static_variables)]
    width = max(8, *names)
    numbers = " ".join(f"{name:>12}" for name in ("mean", "std", "minimum", "maximum"))
    lines = [f"{'variable':{width}} {'role':11} {'units':12} {numbers}  missing"]
    for variable, count, mean, std, constant, minimum, maximum in variable_statistics(store):
        spread = ("constant" if constant else f"{std:.5g}") if count else "not measured"
        name = f"{variable.key:{width}} {variable.role:11} {variable.units:12}"
        share = missing_share(store, variable, count)
        missing = "" if share is None else f" {share:>8.2%}"
        lines.append(f"{name} {mean:>12.5g} {spread:>12} {minimum:>12.5g} {maximum:>12.5g}{missing}")
    return lines + [
        f"{variable.key} is stored, and measured above, as {variable.describe_values()}"
        for variable in (*store.variables, *store.static_variables)
        if variable.transform is not None
    ]


def _rounding(store: Store, manifest: Manifest) -> list[str]:
    """What 16 bits changed, the variable whose increments suffer most first."""
    found = roundings(store, manifest)
    if not found:
        return []
    width = max(8, *map(len, found))
    lines = [f"{'in float16':{width}} {'of the std':>12} {'of increments':>14} {'at most':>12}"]
    for key, one in sorted(found.items(), key=lambda item: -(item[1]["of_increments"] or 0.0)):
        increments = "" if one["of_increments"] is None else f"{one['of_increments']:.3%}"
        lines.append(f"{key:{width}} {one['of_values']:>12.4%} {increments:>14} {one['largest']:>12.3g}")
    return [*lines, "root mean squares of what rounding changed; increments are from one frame to the next"]


def _splits(store: Store) -> list[str]:
    lines = []
    for name, frames in store.splits.items():
        num = int(frames.any(axis=1).sum())
        lines.append(f"{name:11} {num} trajectories, {int(frames.sum())} frames")
    feeds = read_metadata(store.path)["attributes"]["pelagos"].get("files", {})
    return lines + describe_feeds(feeds)


def _assumptions(store: Store) -> list[str]:
    if store.assumptions is None:
        return ["assumes     not recorded: the build was of an earlier version"]
    return ["assumes", *describe(store.assumptions).splitlines()] if store.assumptions else []


def _provenance(manifest: Manifest) -> list[str]:
    lines = [f"built from  {manifest.config['source'].get('kind', '')}"]
    for record in manifest.sources[:8]:
        digest = f", sha256 {record['sha256'][:16]}" if record["sha256"] else ""
        size = f"{record['bytes']} bytes" if record["bytes"] >= 0 else "not local"
        if digest_of_metadata := record.get("metadata_sha256"):
            digest = f", metadata's sha256 {digest_of_metadata[:16]}"
        lines.append(f"            {record['path']} ({size}{digest})")
    if len(manifest.sources) > 8:
        lines.append(f"            and {len(manifest.sources) - 8} more")
    return lines
