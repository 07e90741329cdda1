"""The formats that can be read, and those that can be written."""

from typing import Annotated

from pydantic import Field

from pelagos.preprocessing.sources.files import Files
from pelagos.preprocessing.sources.formats import pdebench_writer, pdegym, the_well
from pelagos.preprocessing.sources.formats.anemoi import Anemoi
from pelagos.preprocessing.sources.formats.apebench import APEBench
from pelagos.preprocessing.sources.formats.cf import CF
from pelagos.preprocessing.sources.formats.cfdbench import CFDBench
from pelagos.preprocessing.sources.formats.credit import CREDIT
from pelagos.preprocessing.sources.formats.external import ExternalSource
from pelagos.preprocessing.sources.formats.fno_data import FNO
from pelagos.preprocessing.sources.formats.grib import GRIB
from pelagos.preprocessing.sources.formats.neuralop import NeuralOp
from pelagos.preprocessing.sources.formats.pdearena import PDEArena
from pelagos.preprocessing.sources.formats.pdebench import PDEBench
from pelagos.preprocessing.sources.formats.pdegym import PDEGym
from pelagos.preprocessing.sources.formats.realpdebench import RealPDEBench
from pelagos.preprocessing.sources.formats.the_well import TheWell
from pelagos.preprocessing.sources.formats.torch_cfd import TorchCFD
from pelagos.preprocessing.sources.formats.weatherbench import WeatherBench
from pelagos.preprocessing.sources.writer import BlockWriter

Source = Annotated[
    PDEGym
    | PDEBench
    | TheWell
    | PDEArena
    | FNO
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
"""Any source's configuration; `open()` gives the dataset in the one convention."""

FORMATS: tuple[type[Files], ...] = (
    PDEGym,
    PDEBench,
    TheWell,
    PDEArena,
    FNO,
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
"""Those of files, in the order in which they are asked for what an archive is."""

WRITERS: dict[str, type[BlockWriter]] = {
    "pdegym": pdegym.Writer,
    "pdebench_flow": pdebench_writer.FlowWriter,
    "pdebench_diffusion_reaction": pdebench_writer.DiffusionReactionWriter,
    "the_well": the_well.Writer,
}
"""Writers by the name of what they write."""
