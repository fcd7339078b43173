"""nginx with our nginx.conf and a folder `place/` as an operator makes it, in front of hosts that are there."""

import http.client
import json
import os
import signal
import ssl
import subprocess
import tempfile
import unittest
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from harness.processes import C42_PROXY, ROOT, Process, ProcessTestCase, clean_environ, free_port, until
from harness.sandbox import TIMEOUT, Sandbox
from harness.stack import PATH, Answer, send

FILES = ROOT / "deploy" / "nginx"
LISTEN = "listen 127.0.0.1:{port};"


def nginx_version() -> tuple[int, ...]:
    said = subprocess.run(["nginx", "-v"], check=True, capture_output=True, text=True).stderr
    return tuple(int(part) for part in said.split("/")[1].split()[0].split("."))


class Nginx(Process):
    """It has `place/` with the files of `edge` (names in deploy/nginx/edge) in a folder of its own.

    `hosts` are ports of this machine, or whole rows. `changes` is text to replace in all files, as an operator edits
    them; each must be there. `files` are further ones, or replace some. `{port}` and `{tls_port}` become free ports.
    """

    def __init__(
        self,
        hosts: Iterable[int | str],
        *edge: str,
        listen: str = LISTEN,
        origins: str = "",
        changes: Mapping[str, str] | None = None,
        files: Mapping[str, str] | None = None,
    ) -> None:
        self.port, self.tls_port = free_port(), free_port()
        self._temporary = tempfile.TemporaryDirectory(prefix="c42-nginx-")
        self.folder = Path(self._temporary.name)
        self.log = self.folder / "access.log"
        for name in ("place/edge", "temp"):
            (self.folder / name).mkdir(parents=True)
        texts = {
            "nginx.conf": (FILES / "nginx.conf").read_text(),
            "place/listen.conf": listen,
            "place/hosts.conf": "\n".join(row if isinstance(row, str) else f"server 127.0.0.1:{row};" for row in hosts),
            "place/http.conf": f'access_log access.log answers; map "" $allow_origins {{ default "{origins}"; }}',
            **{f"place/edge/{name}": (FILES / "edge" / name).read_text() for name in edge},
            **(files or {}),
        }
        for old, new in (changes or {}).items():
            assert any(old in text for text in texts.values()), old
            texts = {name: text.replace(old, new) for name, text in texts.items()}
        for name, text in texts.items():
            ours = text.replace("{port}", f"{self.port}").replace("{tls_port}", f"{self.tls_port}")
            (self.folder / name).write_text(ours)
        # As root, its workers would run as a user that may not enter the folder.
        also = "daemon off;" + (" user root;" if os.geteuid() == 0 else "")
        words = ["-p", f"{self.folder}/", "-c", f"{self.folder}/nginx.conf", "-e", "stderr", "-g", also]
        super().__init__(["nginx", *words], clean_environ())
        try:
            # It writes this file when it listens already.
            until(lambda: (self.folder / "nginx.pid").exists() or not self.is_running, "nginx")
            if not self.is_running or "[warn]" in self.output():
                raise RuntimeError(f"nginx is not content with its files:\n{self.output()}")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        super().close()
        self._temporary.cleanup()

    def reload(self) -> None:
        """Until other workers have taken over."""
        old = self.descendants()
        self.send(signal.SIGHUP)
        until(lambda: not old & self.descendants(), f"other workers:\n{self.output()}")

    def ask(
        self,
        target: str = PATH,
        method: str = "GET",
        tls: ssl.SSLContext | None = None,
        source: str = "127.0.0.1",
        /,
        **headers: str,
    ) -> Answer:
        """Ask on a connection of its own, with TLS or without it, from any address of the loopback device."""
        connection = (
            http.client.HTTPConnection("127.0.0.1", self.port, TIMEOUT, (source, 0))
            if tls is None
            else http.client.HTTPSConnection("127.0.0.1", self.tls_port, timeout=TIMEOUT, context=tls)
        )
        try:
            return send(connection, target, method, **headers)
        finally:
            connection.close()

    def lines(self, request_id: str, number: int = 1) -> list[dict[str, object]]:
        """What the access log says of the requests with this id: nginx writes that after the answer."""

        def found() -> list[dict[str, object]] | None:
            lines = [json.loads(line) for line in self.log.read_text().splitlines()]
            ours = [line for line in lines if line["request_id"] == request_id]
            return ours if len(ours) >= number else None

        return until(found, f"{number} lines of {request_id}", TIMEOUT)


class BehindNginxTest(ProcessTestCase):
    """C42 and one host of the proxy, at `host`, for all tests of a module: each starts an nginx of its own."""

    shared: ClassVar[tuple[Sandbox, Process, int] | None] = None
    c42: ClassVar[Sandbox]
    host: ClassVar[int]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        if BehindNginxTest.shared is None:
            c42, port = unittest.enterModuleContext(Sandbox()), free_port()
            settings = {"C42_BIND": f"127.0.0.1:{port}", "C42_OPS_BIND": "", "C42_CACHE_URL": "memory://"}
            proxy = Process([*C42_PROXY, "serve"], clean_environ(**c42.variables, **settings))
            BehindNginxTest.shared = c42, unittest.enterModuleContext(proxy), port
            proxy.wait_until_answers(f"http://127.0.0.1:{port}/")
            unittest.addModuleCleanup(setattr, BehindNginxTest, "shared", None)
        cls.c42, proxy, cls.host = BehindNginxTest.shared
        cls.processes = [cls.c42, proxy]

    def nginx(self, *edge: str, hosts: Iterable[int | str] = (), **options: Any) -> Nginx:
        """An nginx in front of the host, or of other ones, which ends with the test."""
        return self.enterContext(Nginx(hosts or [self.host], *edge, **options))
