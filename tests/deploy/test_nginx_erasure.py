"""nginx's copy of an answer leaves its disk when nobody has asked for it for a while."""

import unittest

from harness.needs import needs
from harness.nginx import Nginx
from harness.processes import until
from harness.wire import Wire, says


@needs("nginx")
class NginxErasureTest(unittest.TestCase):
    def test_inactive(self) -> None:
        """Our configuration says ten minutes; with one second instead, the copy is soon gone.

        nginx looks every ten seconds at most, by the machine's clock.
        """
        host = self.enterContext(Wire(says(b"Secret", "200 OK", "X-Accel-Expires: 3600")))
        nginx = self.enterContext(Nginx([host.port], changes={" inactive=10m ": " inactive=1s "}))
        self.assertEqual(nginx.ask().body, b"Secret")

        def copies() -> list[bytes]:
            return [file.read_bytes() for file in (nginx.folder / "cache").rglob("*") if file.is_file()]

        until(copies, "a copy")
        self.assertIn(b"Secret", copies()[0])
        until(lambda: not copies(), "that the copy is gone")
