"""A server that can be away: a port of this machine that leads to another one, or nowhere."""

import socket
import threading
from contextlib import suppress


class Relay:
    """A port of its own, closed at first, that hands on to the port `to` between `open` and `close`."""

    def __init__(self, to: int) -> None:
        self.to = to
        self.opened: list[socket.socket] = []
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port: int = probe.getsockname()[1]

    def open(self) -> None:
        listening = socket.create_server(("127.0.0.1", self.port))
        self.opened = [listening]
        threading.Thread(target=self._accept, args=(listening,), daemon=True).start()

    def close(self) -> None:
        """Nobody listens any more, and what was open is cut."""
        for one in self.opened:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        self.opened = []

    def _accept(self, listening: socket.socket) -> None:
        with suppress(OSError):
            while True:
                here, _ = listening.accept()
                there = socket.create_connection(("127.0.0.1", self.to))
                self.opened += [here, there]
                for ends in ((here, there), (there, here)):
                    threading.Thread(target=self._hand_on, args=ends, daemon=True).start()

    def _hand_on(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while content := source.recv(65_536):
                # A server may answer to its own name alone; both have as many digits.
                target.sendall(content.replace(b"127.0.0.1:%d" % self.port, b"127.0.0.1:%d" % self.to))
        for one in (source, target):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
