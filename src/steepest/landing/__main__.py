"""`python -m steepest.landing` is the command `steepest landing`."""

import sys

if __name__ == "__main__":
    from steepest.cli import main

    sys.argv[1:1] = ["landing"]
    main()
