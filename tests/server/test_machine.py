"""The proxy where the machine lacks something, and however gunicorn is told to start: real processes."""

import os
import re
import signal
import socket
import sys
import tempfile
import textwrap
import unittest
from pathlib import Path

from harness.processes import C42_PROXY, ROOT, Process, clean_environ, is_alive, run, until
from tests.server.test_gunicorn import ask
from tests.web.test_ops import TIMEOUT, OpsTestCase

NAMESPACE = ("unshare", "--mount", "--propagation", "private", "sh", "-ec")
MAY_MOUNT = os.geteuid() == 0 and run(*NAMESPACE, "mount -t tmpfs t /mnt", environ=clean_environ()).returncode == 0

SHARED_MEMORY = {
    "missing": """for d in null zero random urandom; do touch $T/$d; mount --bind /dev/$d $T/$d; done
        mount --rbind $T /dev; ! test -e /dev/shm""",
    "read-only": "mount -t tmpfs -o ro t /dev/shm",
    "nearly full": "mount -t tmpfs -o size=64k t /dev/shm; head -c 61440 /dev/zero >/dev/shm/x",
    "without room for a file": "mount -t tmpfs -o nr_inodes=1 t /dev/shm",
}

NO_MEMORY_TO_SHARE = """
    import errno, mmap, os
    class NoMemory(mmap.mmap):
        def __new__(cls, fileno, *arguments, **keywords):
            if fileno == -1:
                raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
            return super().__new__(cls, fileno, *arguments, **keywords)
    mmap.mmap = NoMemory
"""
HAND_OVER = """
import os, socket, sys
listeners = [socket.create_server(("127.0.0.1", int(port))) for port in sys.argv[1].split(",")]
copies = [os.dup(listener.fileno()) for listener in listeners]
for number, copy in enumerate(copies, 3):
    os.dup2(copy, number)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(copies)))
os.execv(sys.argv[2], sys.argv[2:])
"""

LEAVES_SOCKETS = {"PYTHONWARNINGS": ""}
"""gunicorn leaves copies of the sockets that it inherits open, and Python would say so."""


@unittest.skipUnless(MAY_MOUNT, "only root may mount a /dev/shm of its own, where the system allows it")
class SharedMemoryTest(OpsTestCase):
    def serve_with(self, mounts: str) -> None:
        folder = self.enterContext(tempfile.TemporaryDirectory())
        script = f'mount -t tmpfs t {folder}; T={folder}; {mounts}; exec "$@"'
        self.process = self.serve(command=(*NAMESPACE, script, "sh"), WEB_CONCURRENCY="2")

    def test_lacking(self) -> None:
        """Where /dev/shm cannot be used, answers and the metrics of all workers go on."""
        for how, mounts in SHARED_MEMORY.items():
            with self.subTest(how):
                self.serve_with(mounts)
                self.ask_for_events(8)
                self.assertEqual(self.errors_counted(), 8)
                # A heartbeat is an empty file: it needs no more room.
                self.assert_told(int(how != "nearly full"))
                self.process.close()

    def assert_told(self, times: int) -> None:
        said = self.process.output()
        self.assertEqual(said.count("/dev/shm cannot be used: gunicorn's heartbeats go to "), times, said)  # text

    def test_lost(self) -> None:
        """Where it is lost while the proxy runs, a worker that ends is replaced all the same, and counts on."""
        self.serve_and_lose_it()
        self.ask_for_events(4)
        ((killed, _), *_others) = old = self.process.descendants()
        os.kill(killed, signal.SIGKILL)
        until(lambda: len(self.process.descendants() - old) == 1, "another worker")
        self.ask_for_events(4)
        self.assertEqual(self.errors_counted(), 8)
        self.assert_told(1)

    def test_one_more_worker(self) -> None:
        """Where it is lost while the proxy runs, another worker can be added all the same (SIGTTIN)."""
        self.serve_and_lose_it()
        self.process.send(signal.SIGTTIN)
        until(lambda: len(self.process.descendants()) == 3, "a third worker")
        self.ask_for_events(2)

    def serve_and_lose_it(self) -> None:
        self.serve_with("mount -t tmpfs t /dev/shm")
        # A worker may answer before the other one exists.
        until(lambda: len(self.process.descendants()) == 2, "two workers")
        # Its own root, too: this may run in a chroot.
        inside = ("nsenter", "--mount", "--root", "--target", str(self.process.pid))
        lost = run(*inside, "mount", "-t", "tmpfs", "-o", "ro", "t", "/dev/shm", environ=clean_environ())
        self.assertEqual(lost.returncode, 0, lost.stderr)


class StartTest(OpsTestCase):
    @unittest.skipUnless(os.geteuid() == 0, "only root may become somebody else")
    def test_another_user(self) -> None:
        """With a user that gunicorn switches to, the workers answer and count together.

        The default store is in a folder of the user who has started the proxy: each worker says so once.
        """
        home = self.enterContext(tempfile.TemporaryDirectory())
        arguments = "--user 65534 --group 65534 --workers 2"
        process = self.serve(GUNICORN_CMD_ARGS=arguments, C42_CACHE_URL="", XDG_CACHE_HOME=home)

        def users() -> list[int]:
            return [os.stat(f"/proc/{pid}").st_uid for pid, _ in process.descendants()]

        until(lambda: users() == [65534, 65534], "two workers of another user")
        self.ask_for_events(8)
        self.assertEqual(self.errors_counted(), 8)
        self.assertEqual(process.output().count("the shared store fails"), 2, process.output())

    def test_hooks_of_the_operator(self) -> None:
        """Hooks in gunicorn's configuration file run beside our own: the workers count together."""
        with tempfile.NamedTemporaryFile("w", suffix=".py") as file:
            file.write(
                "def pre_fork(server, worker):\n    server.log.info('a hook')\npost_fork = child_exit = pre_fork\n"
            )
            file.write("def on_starting(server):\n    server.log.info('a hook')\n")
            file.flush()
            process = self.serve(GUNICORN_CMD_ARGS=f"--config {file.name} --workers 2")
            until(lambda: len(process.descendants()) == 2, "two workers")
            self.ask_for_events(8)
            self.assertEqual(self.errors_counted(), 8)
            until(lambda: process.output().count("a hook") == 5, "the lines of the hooks")

    def test_broken_hook(self) -> None:
        """If no worker can start, because of a hook of the operator, the exit status is 1, as for any other failure."""
        with tempfile.NamedTemporaryFile("w", suffix=".py") as file:
            file.write("def post_fork(server, worker):\n    raise ValueError('broken')\n")
            file.flush()
            for workers in ("1", "2"):
                arguments = f"--config {file.name} --workers {workers}"
                process = self.begin(GUNICORN_CMD_ARGS=arguments, **LEAVES_SOCKETS)
                self.assertEqual(1, process.wait(TIMEOUT), process.output())
                self.assertIn("Worker failed to boot.", process.output())

    def test_reload(self) -> None:
        """At a SIGHUP, a configuration that could start no proxy is an error in the log, and nothing changes."""
        file = Path(self.enterContext(tempfile.TemporaryDirectory())) / "gunicorn.py"
        file.touch()
        process = self.serve(GUNICORN_CMD_ARGS=f"--config {file}")
        workers = process.descendants()
        taken = self.enterContext(socket.create_server(("127.0.0.1", 0))).getsockname()[1]
        for lines, says in (
            # A name like no other: for one that is like another, newer Pythons ask whether that is meant.
            ("workers = qxz", r"Failed to read config file: .* \(NameError: name 'qxz' is not defined\)"),
            ("workers = -1", "Invalid value for workers: -1.*"),
            ("workers = 0", "--workers: allowed is .*"),
            ("certfile = '/none'", "--certfile /none: No such file or directory"),
            ("pidfile = '/nowhere/pid'", r"--pid /nowhere/pid: cannot be made \(No such file or directory\)"),
            (f"bind = '127.0.0.1:{taken}'", rf"cannot listen on 127\.0\.0\.1:{taken} \(Address already in use\)"),
        ):
            file.write_text(lines)
            process.send(signal.SIGHUP)
            line = re.compile(rf"nothing is reloaded: GUNICORN_CMD_ARGS: {says}\.")
            until(lambda line=line: line.search(process.output()), f"{line}:\n{process.output()}")  # type: ignore[misc]  # bound
            self.assertEqual(workers, process.descendants())
        self.ask_for_events(1)
        file.write_text("workers = 1")
        process.send(signal.SIGHUP)
        until(lambda: len(new := process.descendants()) == 1 and not new & workers, "a new worker")
        self.assertNotIn("Traceback", process.output())

    def test_preload(self) -> None:
        """With --preload, there are all metrics, of all workers; one that is replaced counts on."""
        self.assert_counted_over_all(GUNICORN_CMD_ARGS="--preload")
        _, text = self.get(self.ops_port, "/metrics")
        for metric in ("store_up 1.0", "memory_entries 0.0", "fetches_in_flight 0.0", "store_failures_total 0.0"):
            self.assertIn(f"\nc42_proxy_{metric}\n", text)

    def test_no_memory_to_share(self) -> None:
        """Where there is no memory in which workers can count together, each counts alone, and the log says so."""
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "sitecustomize.py").write_text(textwrap.dedent(NO_MEMORY_TO_SHARE))
            process = self.serve(PYTHONPATH=f"{folder}{os.pathsep}{ROOT}")
            self.assertEqual(process.output().count("no memory for the metrics of all workers"), 1, process.output())
            self.ask_for_events(2)
            self.assertEqual(self.errors_counted(), 2)
            ((killed, _),) = old = process.descendants()
            os.kill(killed, signal.SIGKILL)
            until(lambda: process.descendants() - old, "another worker")
            self.ask_for_events(1)
            self.assertEqual(self.errors_counted(), 1)
            self.assertNotIn("Traceback", process.output())

    def test_nothing_in_a_folder(self) -> None:
        """Nothing of the proxy has a name that another user could have taken before."""
        with tempfile.TemporaryDirectory() as folder:
            process = self.serve(TMPDIR=folder, WEB_CONCURRENCY="2")
            self.ask_for_events(1)
            self.assertEqual(os.listdir(folder), [])
            for pid, _ in process.descendants():
                with open(f"/proc/{pid}/maps") as maps:
                    self.assertEqual([line for line in maps if "/dev/shm" in line], [])

    def test_worker_classes(self) -> None:
        """Each worker class has the ops port where the ops port is, whatever the Host, or is refused at the start."""
        for worker_class in ("sync", "gthread", "asgi"):
            with self.subTest(worker_class):
                process = self.serve(GUNICORN_CMD_ARGS=f"--worker-class {worker_class} --threads 4")
                self.ask_for_events(2)
                self.assertEqual(self.get(self.port, "/metrics")[0], 404)
                self.assertEqual(self.errors_counted(), 2)
                answer = ask(self.port)
                self.assertEqual([name.lower() for name, _value in answer.headers].count("date"), 1, answer)
                for method in ("get", "GE", "M#X"):
                    self.assertEqual(ask(self.port, method=method).status, 405, method)
                process.close()

    def test_other_worker_classes(self) -> None:
        """Other classes are refused in a sentence: in some, threads stand still, in others, the ops port is open."""
        environ = clean_environ(C42_API_TOKEN="s3kr3t", C42_CACHE_URL="memory://")
        for worker_class in (
            "gunicorn.workers.base.Worker",
            "gunicorn.workers.base_async.AsyncWorker",
            "uvicorn_worker.UvicornWorker",
        ):
            environ["GUNICORN_CMD_ARGS"] = f"--worker-class {worker_class}"
            ended = run(*C42_PROXY, "serve", environ=environ)
            self.assertEqual((ended.returncode, ended.stdout), (2, ""), ended.stderr)
            self.assertIn(f"--worker-class {worker_class}: ", ended.stderr)
            self.assertNotIn("Traceback", ended.stderr)
        environ["GUNICORN_CMD_ARGS"] = "--bind 127.0.0.1:1 --bind 127.0.0.2:4243"
        ended = run(*C42_PROXY, "serve", environ=environ)
        self.assertEqual(ended.returncode, 2, ended.stderr)
        self.assertIn("--bind: port 4243 is that of C42_OPS_BIND", ended.stderr)

    def test_unix_socket(self) -> None:
        """On a Unix socket, no Host opens the ops port."""
        for worker_class in ("gthread", "sync", "asgi", "c42_proxy.server.worker.Worker"):
            with self.subTest(worker_class), tempfile.TemporaryDirectory() as folder:
                path = f"{folder}/socket"
                bind = f"--bind 127.0.0.1:{{}} --bind unix:{path}"
                self.start_on(bind, worker_class)
                for host in (f"localhost:{self.ops_port}", f"127.0.0.1:{self.ops_port}"):
                    with socket.socket(socket.AF_UNIX) as client:
                        client.settimeout(TIMEOUT)
                        client.connect(path)
                        client.sendall(f"GET /metrics HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
                        self.assertEqual(client.makefile().readline().split()[1], "404")
                self.process.close()

    def start_on(self, bind: str, worker_class: str) -> None:
        script = 'export GUNICORN_CMD_ARGS="$(echo "$0" | sed "s/{}/${C42_BIND##*:}/")"; exec "$@"'
        self.process = self.serve(command=("sh", "-c", script, f"{bind} --worker-class {worker_class}"))

    def test_usr2(self) -> None:
        """USR2 starts a new master beside the old one, however that was started; it takes over, ops port and all."""
        for command in ((sys.executable, "-m", "c42_proxy"), (f"{os.path.dirname(sys.executable)}/c42-proxy",)):
            with self.subTest(command):
                process = self.serve(command=("sh", "-c", f"exec {' '.join(command)} serve", "sh"), **LEAVES_SOCKETS)
                old = process.descendants()
                process.send(signal.SIGUSR2)
                self.wait_for_second(process)
                self.assertNotIn("among the sockets", process.output())
                self.new = process.descendants() - old
                process.send(signal.SIGTERM)
                self.assertEqual(process.wait(), 0, process.output())
                self.assertFalse(any(map(is_alive, old)))
                self.ask_for_events(2)
                self.assertEqual(self.get(self.ops_port, "/healthz")[0], 200)
                self.assertEqual(self.errors_counted(), 2)
                process.send_to_all(signal.SIGTERM)
                until(lambda: not any(map(is_alive, self.new)), "the end of the new master and its worker")

    def wait_for_second(self, process: Process) -> None:
        until(lambda: process.output().count("Booting worker") == 2, "a worker of another master")

    def test_socket_activation(self) -> None:
        """If systemd hands over the sockets, our two addresses are among them, or the log says which is absent."""
        for ports, moved, absent in (
            ("public,ops", "", []),
            ("public", "", ["C42_OPS_BIND"]),
            ("public,ops", "export C42_BIND=127.0.0.1:1;", ["C42_BIND"]),
        ):
            with self.subTest(ports, moved=moved):
                script = f"""P=$(echo {ports} | sed "s/public/${{C42_BIND##*:}}/; s/ops/${{C42_OPS_BIND##*:}}/"); \
                    {moved} exec {sys.executable} -c "$0" $P "$@" """
                process = self.serve(command=("sh", "-c", script, HAND_OVER), **LEAVES_SOCKETS)
                if "ops" in ports:
                    self.assertEqual(self.get(self.ops_port, "/healthz")[0], 200)
                self.assertEqual(re.findall(r"(C42_\w+): \S+ is not among the sockets", process.output()), absent)
                process.close()
