"""`python -m pelagos.pipeline COMMAND CONFIG [KEY=VALUE ...]`, the form for srun and torchrun."""

from pelagos.pipeline.cli import main

main()
