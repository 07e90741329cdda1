"""PDEBench (Takamoto et al. 2022, arXiv:2210.07182): HDF5 files of many equations; see `pdebench_files` for layouts."""

import re
from typing import Literal

import xarray as xr
from pydantic import Field

from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.sources import convention
from pelagos.preprocessing.sources.arrays.join_files import join_files
from pelagos.preprocessing.sources.convention import BoundaryOption
from pelagos.preprocessing.sources.file_source import FileSource
from pelagos.preprocessing.sources.finding import ArchiveListing, Finding
from pelagos.preprocessing.sources.formats.pdebench_files import (
    FLOW,
    LAYOUTS,
    PROBLEMS,
    LayoutOptions,
    PDEBenchAxes,
    PDEBenchProblem,
    read_file,
)


class PDEBench(FileSource):
    """Reads files of PDEBench; several of one layout are concatenated along the trajectories.

    Attributes:
        kind: "pdebench".
        variables: fields to read, all if empty.
        problem: what files with one group for each seed hold, where neither they nor their names say.
        axes: order of the spatial axes, for files that differ from their family.
        boundary: beyond the edges; replaces what is known from the family or the file's name.
        parameters: scalars by name; replace those of the files.
    """

    kind: Literal["pdebench"] = "pdebench"
    variables: tuple[str, ...] = ()
    problem: PDEBenchProblem | None = None
    axes: PDEBenchAxes | None = None
    boundary: BoundaryOption | None = None
    parameters: dict[str, float] = Field(default_factory=dict)

    @classmethod
    def recognise(cls, listing: ArchiveListing) -> Finding | None:
        """Numbered groups with `data`, or arrays beside `x-coordinate`."""
        if listing.container != "hdf5":
            return None
        seeds = [key for key in listing.shapes if re.fullmatch(r"\d+/data", key)]
        if seeds:
            evidence = f"HDF5 with numbered groups: {listing.describe(*seeds[:2])}"
            if named := [problem for problem in PROBLEMS if problem in listing.path.name]:
                return Finding("pdebench", "certain", evidence, {"problem": named[0]})
            channels = listing.shapes[seeds[0]][-1]
            fitting = [name for name, one in PROBLEMS.items() if len(one.channels) == channels]
            return Finding("pdebench", "likely", evidence, ask={"problem": " or ".join(fitting)})
        held = [key for key in (*LAYOUTS, *FLOW.values()) if key in listing.shapes]
        if listing.has("velocity", "particles", "force"):
            evidence = f"HDF5 with {listing.describe('velocity', 'particles', 'force', 't')}"
            return Finding("pdebench", "certain", evidence)
        if not held or "x-coordinate" not in listing.shapes:
            return None
        return Finding(
            "pdebench", "certain", f"HDF5 with x-coordinate and {listing.describe(*dict.fromkeys(held))}"
        )

    def open(self) -> xr.Dataset:
        """The dataset in the convention; reads coordinates and parameters, no field.

        Raises:
            ConfigError: if the problem must be named.
            DataError: for files of several layouts or grids, and unknown layouts.
        """
        options = LayoutOptions(self.problem, self.axes)
        files = [read_file(path, options) for path in self.files()]
        first = files[0]
        boundary = self.boundary or convention.on_all_sides(first.boundary)
        level = boundary.level_sides or (first.boundary, first.boundary)
        ds = join_files(
            [contents for file in files for contents in file.contents],
            self,
            boundary.model_copy(update={"level": level}),
            source_format="pdebench",
            references="arXiv:2210.07182",
        )
        for other in files[1:]:
            if first.boundary != other.boundary:
                raise DataError(
                    f"{first.path} and {other.path} have different boundary kinds: make a dataset of each"
                )
        given = {
            name: xr.Variable((), value, convention.attrs(name, "scalar"))
            for name, value in self.parameters.items()
        }
        return convention.select(ds.assign(given), self.variables)
