"""WXFormer and FuXi of NCAR's CREDIT."""
