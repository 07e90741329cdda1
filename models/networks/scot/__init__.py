"""The Pelagos transformer: scOT of Poseidon, generalised."""
