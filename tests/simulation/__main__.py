"""Play one run again: ``python -m tests.simulation SPEC [MUTANT]``."""

from __future__ import annotations

import sys

from tests.simulation.mutants import MUTANTS
from tests.simulation.runs import SimulationFailure, play

if __name__ == "__main__":
    try:
        world = play(sys.argv[1], MUTANTS[sys.argv[2]].program if len(sys.argv) > 2 else None)
    except SimulationFailure as failure:
        sys.exit(str(failure))
    print("\n".join(world.trace))
    print(dict(world.marks))
