"""From a configuration to parts: `build` makes each part once; `transports` and `edges` open what the parts talk to."""

from streamal.bootstrap.parts import Parts, build, build_for_figures

__all__ = ["Parts", "build", "build_for_figures"]
