"""An HTTP proxy of Debian's, in a process of its own."""

import socket
from pathlib import Path

from harness.processes import Process, clean_environ, free_port, until

USER = "ford"


class Tinyproxy(Process):
    """Lets everybody on this machine through, or those alone who know `password`. It writes into `folder`."""

    def __init__(self, folder: Path, password: str | None = None) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        lines = [f"Port {self.port}", "Listen 127.0.0.1", "Timeout 30", "MaxClients 50", "LogLevel Connect"]
        if password is not None:
            lines.append(f"BasicAuth {USER} {password}")
            self.url = f"http://{USER}:{password}@127.0.0.1:{self.port}"
        file = folder / f"tinyproxy-{self.port}.conf"
        file.write_text("\n".join([*lines, ""]))
        super().__init__(["tinyproxy", "-d", "-c", f"{file}"], clean_environ())
        try:
            until(self._accepts, f"{self.command} at its port:\n{self.output()}")
        except BaseException:
            self.close()
            raise

    @property
    def connects(self) -> int:
        """How often it was asked to connect."""
        return self.output().count(": CONNECT ")

    def _accepts(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port)).close()
        except OSError:
            return False
        return True
