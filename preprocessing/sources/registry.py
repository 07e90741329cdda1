"""The formats that can be read, and those that can be written."""

from typing import Annotated

from pydantic import Field

from pelagos.preprocessing.external import ExternalSource
from pelagos.preprocessing.sources import pdebench, pdegym, the_well
from pelagos.preprocessing.sources.cf import CF
from pelagos.preprocessing.sources.neuralop import NeuralOp
from pelagos.preprocessing.sources.pdebench import PDEBench
from pelagos.preprocessing.sources.pdegym import PDEGym
from pelagos.preprocessing.sources.the_well import TheWell
from pelagos.preprocessing.sources.writer import BlockWriter

Source = Annotated[PDEGym | PDEBench | TheWell | NeuralOp | CF | ExternalSource, Field(discriminator="kind")]
"""Any source's configuration; `open()` gives the dataset in the one convention."""

WRITERS: dict[str, type[BlockWriter]] = {
    "pdegym": pdegym.Writer,
    "pdebench_flow": pdebench.FlowWriter,
    "pdebench_diffusion_reaction": pdebench.DiffusionReactionWriter,
    "the_well": the_well.Writer,
}
"""Writers by the name of what they write."""
