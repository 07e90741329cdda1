"""Archive formats, one file each, all read into one xarray convention."""
