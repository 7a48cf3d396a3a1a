"""Finished runs in the formats of other tools: a file each, whose `write(run, out)` returns one line on what it wrote.

`run` is a run's folder, `out` the folder that is written into. Raises UserError where the run lacks what the format needs.
"""
