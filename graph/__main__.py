"""`python -m graph` is what `./run` becomes once its environment is ready."""

import sys

from graph.cli import main

if __name__ == "__main__":  # the worker processes import this module too
    sys.exit(main(sys.argv[1:]))
