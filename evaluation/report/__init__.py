"""Reports: self-contained HTML of scores and figures."""
