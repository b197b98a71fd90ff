"""Deterministic simulation: the production daemon on the memory broker, under every fault we could think of.

Nothing here is random but by seed, no thread runs, no clock ticks by itself: a run is named by one short text (its
*spec*), and ``python -m tests.simulation SPEC`` plays it again, with everything that happened.

============  ==========================================================================================
file          what it holds
============  ==========================================================================================
fakes         model, clock, snapshots, meter and logger of the simulation
scenario      what a seed stands for: rules, limits, and the script of actions
faults        plans: which fault strikes at which I/O point
world         broker, workers, clock; carries out the script and lets everything come to rest
process       one life of a worker
annotators    who answers, and what they could have seen
losses        a topic that is made anew, or states that are lost, until they are restored
strikes       carries out the faults inside of the daemon's I/O calls
checks        the invariants I1 … I16 of ``docs/promises.md``, from the topics' true content
runs          specs: exhaustive, pairs, swarm; what a failure prints
mutants       broken programs that the very same machinery must catch
============  ==========================================================================================
"""
