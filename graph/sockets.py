"""uvicorn's WebSockets, which tell clients that the server goes away."""

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.protocol import State

GOING_AWAY = 1001


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """Closes with 1001 at shutdown. uvicorn's own code, 1012, means that the same server is back in a moment."""

    def shutdown(self) -> None:
        if self.handshake_complete and not self.close_sent and self.conn.state is State.OPEN:
            self.conn.send_close(GOING_AWAY, "The server is shutting down")
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.close_sent = True
        super().shutdown()
