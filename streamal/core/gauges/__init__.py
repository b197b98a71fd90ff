"""What is exported: each gauge is declared beside its value, and `streamal.core.gauges.gauges` has all of them."""
