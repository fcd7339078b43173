"""The programs in docs/clients.md, run as they stand but for the port: with 200, 304, 404, 429, 502, 503 and 504 each.

The one in JavaScript runs in Node, and in Chromium in a page of another site.
"""

import json
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import unittest
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from c42_proxy.sandbox.events import COFFEE
from harness.browser import chromium
from harness.cluster import Cluster, Host
from harness.needs import needs
from harness.openapi import FILE
from harness.processes import ROOT, run
from harness.wire import Behaviour, Connection, Wire, answer
from tools.clients import FOLDER, environ

SECTIONS = re.findall(r"^## (.+)\n((?:(?!## ).*\n)*)", (ROOT / "docs" / "clients.md").read_text(), re.MULTILINE)
PROGRAMS: dict[str, list[tuple[str, str]]] = {
    title: blocks
    for title, text in SECTIONS
    if (blocks := re.findall(r"^```(\w+)\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
}
"""The blocks of each section, with their languages: the last one is the program, and the others come before it."""

SECONDS = 60
LINES = 11
"""A program has no more than this, without empty ones: nobody copies a long one."""

Ask = Callable[[str], object]
"""Ask for an event with a program: the names in it, None, or the reason of the problem that the program raises."""

READERS = {
    "python": """
import json, sys
answers = {}
for line in map(str.strip, sys.stdin):
    try:
        found = answers[line] = event(line, answers.get(line))
        names = found and (found.parsed.names if hasattr(found, "parsed") else found.json()["names"])
        print(json.dumps(names), flush=True)
    except RuntimeError as exc:
        print(json.dumps(str(exc)), flush=True)
""",
    "js": """
import {createInterface} from 'node:readline';
const answers = {};
for await (const line of createInterface({input: process.stdin})) {
  const found = await event(line, answers[line]).catch(error => error.message);
  if (found?.event) answers[line] = found;
  console.log(JSON.stringify(found?.event?.names ?? found ?? null));
}
""",
}
"""What is put behind a program: it reads ids, keeps the last answer for each, and writes what came of it."""


@contextmanager
def in_a_process(language: str, program: str, folder: Path) -> Iterator[Ask]:
    file = folder / {"python": "program.py", "js": "program.mjs"}[language]
    file.write_text(program + READERS[language])
    with subprocess.Popen(
        [{"python": "python", "js": "node"}[language], file],
        cwd=folder,
        env=environ(),
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        give_up = threading.Timer(SECONDS, process.kill)
        give_up.start()

        def ask(event_id: str) -> object:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(f"{event_id}\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        try:
            yield ask
        finally:
            give_up.cancel()
            give_up.join()
            process.kill()


@contextmanager
def in_a_shell(program: str, folder: Path) -> Iterator[Ask]:
    def ask(event_id: str) -> object:
        (of_event := folder / event_id).mkdir(exist_ok=True)
        done = run("sh", "-euc", program.replace(COFFEE, event_id), environ=environ(), cwd=of_event, seconds=SECONDS)
        if done.returncode:
            return json.loads(done.stderr)["reason"]
        kept = of_event / "event.json"
        return json.loads(kept.read_text())["names"] if kept.exists() else None

    yield ask


@contextmanager
def in_a_browser(program: str, host: Host) -> Iterator[Ask]:
    with chromium() as browser:
        page = browser.new_page()
        page.set_default_timeout(1000 * SECONDS)
        # The same server under another name: another origin.
        page.goto(f"http://localhost:{host.port}/")
        module = "data:text/javascript," + quote(program)
        yield lambda event_id: page.evaluate(
            """async ([module, id]) => {
                const {event} = await import(module);
                const answers = window.answers ??= {};
                const found = await event(id, answers[id]).catch(error => error.message);
                if (found?.event) answers[id] = found;
                return found?.event?.names ?? found ?? null;
            }""",
            [module, event_id],
        )


def refuses_one(port: int) -> Behaviour:
    """As nginx in front of the proxy: one request is too many, and the others are passed on."""
    too_many = answer(
        {"type": "about:blank", "title": "", "status": 429, "reason": "too-many-requests", "detail": ""},
        "429 Too Many Requests",
        "Retry-After: 1",
        "Access-Control-Allow-Origin: *",
        "Access-Control-Expose-Headers: Retry-After",
    )
    refused = threading.Event()

    def behave(_path: str, connection: Connection) -> None:
        if not refused.is_set():
            refused.set()
            connection.send(too_many)
            return
        with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as host:
            host.sendall(connection.request.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
            while data := host.recv(65536):
                connection.sock.sendall(data)
        connection.close()

    return behave


@needs("chromium")
@needs("curl")
class Examples(unittest.TestCase):
    def setUp(self) -> None:
        self.cluster = self.enterContext(Cluster())
        # Where the generators' folder is above it, Node finds its modules.
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory(dir=FOLDER)))
        shutil.copy(FILE, self.folder)

    def host(self) -> Host:
        """It forgets soon, has no stale answers, and permits every site."""
        return self.cluster.add_host(
            "memory://",
            C42_ALLOW_ORIGINS="*",
            C42_BREAKER_THRESHOLD="0",
            C42_CACHE_TTL="1",
            C42_LOG_LEVEL="debug",
            C42_STALE_IF_ERROR="0",
            C42_TIMEOUT="1",
        )

    def test_programs(self) -> None:
        """Each program does what the page says."""
        self.assertEqual(list(PROGRAMS), ["fetch", "requests", "httpx", "curl", "A generated client"])
        for title, ((*before, (language, text))) in PROGRAMS.items():
            with self.subTest(title):
                self.assertLessEqual(len(list(filter(str.strip, text.splitlines()))), LINES)
                for _shell, command in before:
                    done = run("sh", "-euc", command, environ=environ(), cwd=self.folder, seconds=SECONDS)
                    self.assertEqual(done.returncode, 0, done.stderr)
                host = self.host()
                front = self.enterContext(Wire(refuses_one(host.port)))
                program = text.replace("127.0.0.1:4242", f"127.0.0.1:{front.port}")
                with (
                    in_a_shell(program, self.folder)
                    if language == "sh"
                    else in_a_process(language, program, self.folder) as ask
                ):
                    self.does_as_the_page_says(ask, host)

    def test_in_a_browser(self) -> None:
        """The program in JavaScript does so in a page of another site, too."""
        host = self.host()
        ((_, text),) = PROGRAMS["fetch"]
        front = self.enterContext(Wire(refuses_one(host.port)))
        with in_a_browser(text.replace("127.0.0.1:4242", f"127.0.0.1:{front.port}"), host) as ask:
            self.does_as_the_page_says(ask, host)

    def does_as_the_page_says(self, ask: Ask, host: Host) -> None:
        sandbox = self.cluster.sandbox
        self.assertEqual(ask(COFFEE), ["Michel"])
        self.assertEqual(ask(COFFEE), ["Michel"])
        host.process.wait_until_says("status=304")

        new = sandbox.new_event()
        sandbox.set(fault={"status": 429, "retry_after": 1}, calls="reset")

        def mend() -> None:
            sandbox.wait_for_call()
            sandbox.set(fault=None)

        mending = threading.Thread(target=mend)
        mending.start()
        self.assertEqual(ask(new), ["Ann"])
        mending.join()
        host.process.wait_until_says("status=503")

        # Both have expired meanwhile.
        with sandbox.with_latency(2):
            self.assertEqual(ask(COFFEE), ["Michel"])
        host.process.wait_until_says("status=504")
        with sandbox.with_fault(status=500):
            self.assertEqual(ask(new), ["Ann"])
            self.assertIsNone(ask(sandbox.new_event()))
        host.process.wait_until_says("status=502")
        self.assertEqual(ask("nobody"), "event-not-found")


if __name__ == "__main__":
    unittest.main()
