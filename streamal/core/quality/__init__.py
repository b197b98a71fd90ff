"""How good the model is, from biased labels."""
