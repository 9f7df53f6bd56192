"""`python -m graph` is what `./run` becomes once its environment is ready."""

import io
import signal
import sys

if __name__ == "__main__":  # the worker processes import this module too
    # Ctrl-C ends the process without a word until the command begins, which has something to clean up.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # blocked by `./run`, so that none falls in between

    # A name of somebody in letters that this terminal does not have is no reason to stop.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")

    from graph.commands.cli import main

    sys.exit(main(sys.argv[1:]))
