"""Statistics of channels, merged over the parts of a build."""
