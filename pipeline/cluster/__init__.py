"""Several processes on this machine, and jobs on SLURM."""
