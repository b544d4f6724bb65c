"""Journeys with known truth: a simulated subscription shop, for demonstrations and for tests that need truth.

`cxml.simulate.world` holds the laws, `cxml.simulate.events` what the log sees of them, `cxml.simulate.run` the way
through. ``docs/simulator.md`` tells it in words and formulas.

Examples
--------
>>> from cxml.simulate import simulate
>>> sorted(simulate(20, n_days=120, n_replays=2).truth["cutoff"].dt.strftime("%Y-%m-%d").unique())
['2023-07-30']
"""

from cxml.simulate.run import Simulation, simulate

__all__ = ["Simulation", "simulate"]
