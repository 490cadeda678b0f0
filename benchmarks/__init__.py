"""What steepest costs and how well it does, against its peers: `python -m benchmarks` from the repository's root.

One subject a file, each with a function `run` that returns its table or tables; `harness` times and writes. A number
means something against the other numbers of its own table only: those were measured in turns, in one run.
"""
