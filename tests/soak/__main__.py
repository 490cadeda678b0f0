"""Hours of faults in minutes: real kills at random moments, cores that others use, slow workers.

    python -m tests.soak                         100 kills for each scheme, and the slow worker
    python -m tests.soak --only ring --kills 500
    python -m tests.soak --minutes 30            training while both cores are loaded: nobody may be left out

It prints a table, and ends with status 1 if a goal is missed.
"""

from __future__ import annotations

import argparse
import os
import sys
import time

from tests.soak.kills import SCHEMES, killed
from tests.soak.load import loaded
from tests.soak.slow import slowed


def main() -> int:
    """Run what is asked for; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100, help="for each scheme")
    parser.add_argument("--only", choices=[*SCHEMES, "slow"], help="one scheme, or the slow worker")
    parser.add_argument("--minutes", type=float, default=0.0, help="train under load for so long, and nothing else")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    os.environ["TORCH_CPP_LOG_LEVEL"] = "ERROR"  # torch warns at length of every store whose host dies
    sys.stdout.write(f"seed {options.seed}\n")
    if options.minutes:
        return report(loaded(options.minutes))
    names = [options.only] if options.only else [*SCHEMES, "slow"]
    results = [slowed() if name == "slow" else killed(name, options.kills, options.seed) for name in names]
    return max(report(result) for result in results)


def report(result: tuple[str, bool]) -> int:
    """Write a line of the table; return whether a goal is missed."""
    sys.stdout.write(f"{'ok  ' if result[1] else 'MISS'}  {result[0]}\n")
    sys.stdout.flush()
    return int(not result[1])


if __name__ == "__main__":
    sys.exit(main())
