"""nginx's copy of an answer leaves its disk when nobody has asked for it for a while."""

import os
import tempfile
import unittest
import urllib.request
from pathlib import Path

from harness.needs import needs
from harness.processes import ROOT, Process, clean_environ, free_port, until

CONFIGURATION = ROOT / "deploy" / "nginx" / "nginx.conf"


@needs("nginx")
class NginxErasureTest(unittest.TestCase):
    def test_inactive(self) -> None:
        """The line of our configuration says ten minutes; with one second instead, the copy is soon gone.

        nginx looks every ten seconds at most, by the machine's clock.
        """
        (line,) = (line for line in CONFIGURATION.read_text().splitlines() if "proxy_cache_path " in line)
        self.assertIn(" inactive=10m ", line)
        folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        # As root, nginx lets another user write.
        folder.chmod(0o777)
        front, behind = free_port(), free_port()
        (folder / "nginx.conf").write_text(f"""
            daemon off; pid nginx.pid; error_log stderr;
            {"user root;" if os.geteuid() == 0 else ""}
            events {{}}
            http {{
                access_log off;
                client_body_temp_path temp; proxy_temp_path temp; fastcgi_temp_path temp; uwsgi_temp_path temp;
                scgi_temp_path temp;
                {line.replace("inactive=10m", "inactive=1s")}
                server {{
                    listen 127.0.0.1:{front};
                    location / {{ proxy_pass http://127.0.0.1:{behind}; proxy_cache answers; }}
                }}
                server {{
                    listen 127.0.0.1:{behind};
                    add_header X-Accel-Expires 3600;
                    location / {{ return 200 "Secret"; }}
                }}
            }}""")
        nginx = self.enterContext(
            Process(["nginx", "-p", str(folder), "-c", "nginx.conf", "-e", "stderr"], clean_environ(), folder)
        )
        url = f"http://127.0.0.1:{front}/"
        nginx.wait_until_answers(url)
        with urllib.request.urlopen(url, timeout=5) as answer:
            self.assertEqual(b"Secret", answer.read())
        cache = folder / "cache"

        def copies() -> list[bytes]:
            return [file.read_bytes() for file in cache.rglob("*") if file.is_file()]

        until(copies, "a copy")
        self.assertIn(b"Secret", copies()[0])
        until(lambda: not copies(), "that the copy is gone")
