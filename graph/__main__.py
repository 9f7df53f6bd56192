"""`python -m graph` is what `./run` becomes once its environment is ready."""

import signal
import sys

if __name__ == "__main__":  # the worker processes import this module too
    # Ctrl-C ends the process without a word until the command begins, which has something to clean up.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # blocked by `./run`, so that none falls in between

    from graph.commands.cli import main

    sys.exit(main(sys.argv[1:]))
