"""Networks of spectral convolutions: FNO and SFNO."""
