"""Source: the union of all formats that can be read, and the writers of those that can be written."""

from typing import Annotated

from pydantic import Field

from pelagos.preprocessing.sources.file_source import FileSource
from pelagos.preprocessing.sources.formats.anemoi import Anemoi
from pelagos.preprocessing.sources.formats.apebench import APEBench
from pelagos.preprocessing.sources.formats.cf import CF
from pelagos.preprocessing.sources.formats.cf_writer import CFWriter
from pelagos.preprocessing.sources.formats.cfdbench import CFDBench
from pelagos.preprocessing.sources.formats.credit import CREDIT
from pelagos.preprocessing.sources.formats.external import ExternalSource
from pelagos.preprocessing.sources.formats.fno_data import FNOData
from pelagos.preprocessing.sources.formats.grib import GRIB
from pelagos.preprocessing.sources.formats.neuralop import NeuralOp
from pelagos.preprocessing.sources.formats.pdearena import PDEArena
from pelagos.preprocessing.sources.formats.pdebench import PDEBench
from pelagos.preprocessing.sources.formats.pdebench_writer import DiffusionReactionWriter, FlowWriter
from pelagos.preprocessing.sources.formats.pdegym import PDEGym
from pelagos.preprocessing.sources.formats.pdegym_writer import PDEGymWriter
from pelagos.preprocessing.sources.formats.realpdebench import RealPDEBench
from pelagos.preprocessing.sources.formats.the_well import TheWell
from pelagos.preprocessing.sources.formats.torch_cfd import TorchCFD
from pelagos.preprocessing.sources.formats.weatherbench import WeatherBench
from pelagos.preprocessing.sources.formats.well_writer import WellWriter
from pelagos.preprocessing.sources.writer import BlockWriter

Source = Annotated[
    PDEGym
    | PDEBench
    | TheWell
    | PDEArena
    | FNOData
    | NeuralOp
    | TorchCFD
    | APEBench
    | CFDBench
    | RealPDEBench
    | WeatherBench
    | Anemoi
    | CREDIT
    | GRIB
    | CF
    | ExternalSource,
    Field(discriminator="kind"),
]
"""The configuration of any source; its `open()` gives the dataset in the convention."""

FORMATS: tuple[type[FileSource], ...] = (
    PDEGym,
    PDEBench,
    TheWell,
    PDEArena,
    FNOData,
    NeuralOp,
    TorchCFD,
    APEBench,
    CFDBench,
    RealPDEBench,
    WeatherBench,
    Anemoi,
    CREDIT,
    GRIB,
    CF,
)
"""Formats of files, in the order in which `recognise` asks them what an archive is: the specific before `cf`."""

WRITERS: dict[str, type[BlockWriter]] = {
    "pdegym": PDEGymWriter,
    "pdebench_flow": FlowWriter,
    "pdebench_diffusion_reaction": DiffusionReactionWriter,
    "the_well": WellWriter,
    "cf": CFWriter,
}
"""Writers, by the name that a `simulate` configuration gives the format."""
