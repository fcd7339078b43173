"""A private authority and what it vouches for, and the sandbox behind TLS (openssl)."""

import ssl
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from c42_proxy.sandbox.api import Sandbox
from c42_proxy.sandbox.command import SANDBOX_TOKEN
from c42_proxy.sandbox.server import App
from harness.processes import Process, clean_environ, free_port

CA = """
[ca]
default_ca = ours
[ours]
database = {folder}/index
new_certs_dir = {folder}
default_md = sha256
policy = any
rand_serial = yes
copy_extensions = copy
[any]
commonName = supplied
"""
HERE = "IP:127.0.0.1,DNS:localhost"
KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


class Authority:
    """Keeps its certificate in `file`, and all that it makes in the folder of that. `marker` is in all its names.

    Its own certificate does for a server or a client here as well.
    """

    def __init__(self, folder: Path, marker: str = "c42") -> None:
        self._marker = marker
        self.file = folder / "authority.pem"
        # Python 3.13 and newer want that of an authority (RFC 5280).
        usage = "keyUsage=critical,keyCertSign,cRLSign,digitalSignature"
        self._issue(self.file, "-addext", usage, "-addext", f"subjectAltName={HERE}")

    def locked_key(self) -> Path:
        """A file with its key behind a passphrase."""
        file = self.file.with_name("locked.pem")
        words = ["openssl", "pkey", "-in", f"{self.file}", "-aes256", "-passout", "pass:c42", "-out", f"{file}"]
        subprocess.run(words, check=True, capture_output=True)
        return file

    def certificate(self, names: str = HERE) -> Path:
        """A file with a certificate for these names (OpenSSL's subjectAltName), and its key."""
        file = self.file.with_name(f"{abs(hash(names))}.pem")
        also = ["-addext", f"subjectAltName={names}", "-addext", "basicConstraints=critical,CA:FALSE"]
        self._issue(file, *also, "-CA", f"{self.file}", "-CAkey", f"{self.file}")
        return file

    def expired(self) -> Path:
        """A file with a certificate that was valid in 2020, and its key."""
        with TemporaryDirectory() as folder:
            names = ["-subj", f"/CN={self._marker} expired", "-addext", f"subjectAltName={HERE}"]
            request = Path(folder, "request.pem")
            _openssl("req", "-new", *KEY, *names, "-keyout", f"{request}.key", "-out", f"{request}")
            (settings := Path(folder, "ca.cnf")).write_text(CA.format(folder=folder))
            Path(folder, "index").touch()
            by = ["-config", f"{settings}", "-cert", f"{self.file}", "-keyfile", f"{self.file}"]
            valid = ["-startdate", "20200101000000Z", "-enddate", "20200102000000Z"]
            made = _openssl("ca", "-batch", "-notext", *by, *valid, "-in", f"{request}")
            file = self.file.with_name("expired.pem")
            file.write_bytes(made + Path(f"{request}.key").read_bytes())
        return file

    def server(self, names: str = HERE, *, expired: bool = False) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.expired() if expired else self.certificate(names))
        return context

    def _issue(self, file: Path, *options: str) -> None:
        words = ["openssl", "req", "-x509", *KEY, "-days", "2", "-subj", f"/CN={self._marker} {file.stem}", *options]
        made = subprocess.run([*words, "-keyout", "-"], check=True, capture_output=True)
        file.write_bytes(made.stdout)


def _openssl(*words: str) -> bytes:
    return subprocess.run(["openssl", *words], check=True, capture_output=True).stdout


class TlsSandbox(Process):
    """The sandbox at an https address."""

    def __init__(self, certificate: Path) -> None:
        port = free_port()
        self.url = f"https://127.0.0.1:{port}/api/v2/"
        words = ["--factory", "harness.tls:app", "--port", f"{port}", "--ssl-certfile", f"{certificate}"]
        super().__init__([sys.executable, "-m", "uvicorn", *words, "--lifespan", "off"], clean_environ())
        self.wait_until_says("Uvicorn running")


def app() -> App:
    return App(Sandbox(token=SANDBOX_TOKEN))
