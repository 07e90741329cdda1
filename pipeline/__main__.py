"""`python -P -m pelagos.pipeline COMMAND CONFIG [KEY=VALUE ...]`, the form for srun and torchrun."""

import os
import sys

# Without -P, `python -m` looks for every module in the working folder first, where a stranger's archive may lie. What
# PYTHONPATH says stays; should it name this folder, that is a second entry.
if not sys.flags.safe_path and sys.path[:1] == [os.getcwd()]:
    del sys.path[0]

from pelagos.pipeline.cli import main  # only now

main()
