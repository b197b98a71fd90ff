"""From a configuration to parts, once: `build` makes what decides and learns, `transports` opens what they talk to."""

from streamal.bootstrap.parts import Parts, build, build_for_figures

__all__ = ["Parts", "build", "build_for_figures"]
