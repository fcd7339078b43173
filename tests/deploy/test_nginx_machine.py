"""nginx on a machine of its own: the commands of docs/operating.md to the letter, and nginx as its service does it."""

import re
import shlex
import shutil
import signal
import tempfile
from pathlib import Path

from harness.needs import needs
from harness.nginx import FILES, BehindNginxTest
from harness.processes import ROOT, Process, clean_environ, free_port, run, until
from harness.sandbox import TIMEOUT
from harness.stack import ask

DROP_IN = ROOT / "deploy" / "systemd" / "nginx.service.d" / "c42-proxy.conf"


@needs("nginx")
class MachineTest(BehindNginxTest):
    def setUp(self) -> None:
        """A folder instead of the machine's root; as root, nginx lets its workers be nobody, who must enter it."""
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory(prefix="c42-machine-")))
        self.folder.chmod(0o755)

    def here(self, text: str) -> str:
        return re.sub(r"/(etc|var/cache|var/log)/nginx", rf"{self.folder}\g<0>", text)

    def test_commands(self) -> None:
        """With the commands of the page and the command of the service, nginx answers, logs, and can be reloaded."""
        shutil.copytree(FILES, self.folder / "deploy" / "nginx")
        (self.folder / "var/log/nginx").mkdir(parents=True)
        port = free_port()
        for name, old, new in (
            ("listen", "listen 80 ", f"listen 127.0.0.1:{port} "),
            ("hosts", "127.0.0.1:4242", f"127.0.0.1:{self.host}"),
            ("http", "/var/log/nginx", f"{self.folder}/var/log/nginx"),
        ):
            file = self.folder / "deploy/nginx/machine" / f"{name}.conf"
            self.assertIn(old, file.read_text())
            file.write_text(file.read_text().replace(old, new))

        page = (ROOT / "docs" / "operating.md").read_text().partition("### nginx on a machine of its own\n")[2]
        commands = re.findall(r"(?:^    .+\n)+", page, re.MULTILINE)[0]
        done = run("sh", "-ec", self.here(commands), environ=clean_environ(), cwd=self.folder)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(done.stderr, "test is successful")
        self.assertNotIn("[warn]", done.stderr)

        (command,) = re.findall(r"^ExecStart=(.+)$", DROP_IN.read_text(), re.MULTILINE)
        _, *words = shlex.split(self.here(command))
        nginx = self.enterContext(Process(["nginx", *words], clean_environ()))
        nginx.wait_until_answers(f"http://127.0.0.1:{port}/")
        self.assertEqual(ask(port).status, 200, nginx.output())
        log = self.folder / "var/log/nginx/access.log"
        until(lambda: '"status":200' in log.read_text(), "a line in the log", TIMEOUT)

        workers = nginx.descendants()
        nginx.send(signal.SIGHUP)
        until(lambda: not workers & nginx.descendants(), "other workers", TIMEOUT)
        self.assertEqual(ask(port).status, 200, nginx.output())
