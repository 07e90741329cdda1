"""Several processes on this machine, and jobs of SLURM."""
