"""Safety: what files of others may not do: run code, exhaust the machine, or learn and spread what is secret."""
