"""uvicorn's servers, which end without a word, however often and whenever they are told to."""

import contextlib
import signal
import socket
from collections.abc import Iterator
from multiprocessing import resource_tracker

import uvicorn
from uvicorn.supervisors import Multiprocess


class Server(uvicorn.Server):
    """The server of one process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        with super().capture_signals():
            try:
                yield
            finally:
                self._captured_signals.clear()  # or they would be raised once more, when there is nothing to interrupt

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        if self.force_exit:  # requests are waited for no longer; what the application holds is put away all the same
            await self.lifespan.shutdown()


class Workers(Multiprocess):
    """Several of them. Ctrl-C reaches all processes of a terminal, also those that are still being loaded."""

    def init_processes(self) -> None:
        resource_tracker.ensure_running()  # its start would unblock them
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            super().init_processes()  # a new process has the mask of its parent, until `listen_to_interrupts`
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def listen_to_interrupts() -> None:
    """For a worker that has uvicorn's handlers by now."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
