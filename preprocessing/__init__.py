"""Archives and simulations to sharded Zarr stores, and stores to samples."""
