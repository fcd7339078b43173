"""The files for Kubernetes and systemd: their own tools accept them, and they say what the proxy needs."""

import os
import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from typing import Any, ClassVar
from unittest.mock import patch

import yaml

from c42_proxy.settings import Settings
from c42_proxy.stores.opening import default_file
from harness.needs import needs, one_platform_is_enough
from harness.processes import ROOT, run

KUBERNETES = ROOT / "deploy" / "kubernetes"
SYSTEMD = ROOT / "deploy" / "systemd"
NGINX = ROOT / "deploy" / "nginx"
VALIDATE = Path(sys.executable).with_name("kubernetes-validate")


@one_platform_is_enough
@needs("kubectl")
class KubernetesTest(unittest.TestCase):
    rendered: ClassVar[str]
    resources: ClassVar[dict[str, Any]]

    @classmethod
    def setUpClass(cls) -> None:
        cls.rendered = subprocess.run(
            ["kubectl", "kustomize", KUBERNETES], capture_output=True, text=True, check=True, timeout=60
        ).stdout
        cls.resources = {
            f"{each['kind']}/{each['metadata']['name']}": each for each in yaml.safe_load_all(cls.rendered)
        }

    @unittest.skipUnless(VALIDATE.exists(), "kubernetes-validate is not there")
    def test_valid(self) -> None:
        """Each resource is what Kubernetes' schemas allow, and nothing else."""
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            file.write(self.rendered)
            file.flush()
            validated = run(str(VALIDATE), "--strict", file.name, environ=dict(os.environ))
        self.assertEqual(0, validated.returncode, validated.stdout + validated.stderr)
        self.assertEqual(len(self.resources), (validated.stdout + validated.stderr).count(" passed "))

    def test_settings(self) -> None:
        """The settings are ones that the proxy knows, and their values are right."""
        (config,) = (each for name, each in self.resources.items() if name.startswith("ConfigMap/"))
        environ = {name: value for name, value in config["data"].items() if name != "WEB_CONCURRENCY"}
        environ |= {each["name"]: each["value"] for each in self.container["env"]}
        with tempfile.NamedTemporaryFile("w") as token:
            token.write("token-of-this-test")
            token.flush()
            settings = Settings.from_env(environ | {"C42_API_TOKEN_FILE": token.name})
        self.assertEqual((), settings.warnings)
        self.assertIn("//redis:6379/", environ["C42_CACHE_URL"])
        self.assertEqual(6379, self.resources["Service/redis"]["spec"]["ports"][0]["port"])

    def test_rollout(self) -> None:
        """A new pod comes first, and an old one ends with time for a miss: the pause, and twice the budget and 5 s."""
        deployment = self.resources["Deployment/proxy"]["spec"]
        self.assertEqual(0, deployment["strategy"]["rollingUpdate"]["maxUnavailable"])
        (_sleep, pause) = self.container["lifecycle"]["preStop"]["exec"]["command"]
        needed = int(pause) + 2 * Settings.model_fields["timeout"].default + 5
        self.assertLess(needed, deployment["template"]["spec"]["terminationGracePeriodSeconds"])
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            self.assertEqual("ops", self.container[probe]["httpGet"]["port"])

    @property
    def container(self) -> Any:
        (container,) = self.resources["Deployment/proxy"]["spec"]["template"]["spec"]["containers"]
        return container


@one_platform_is_enough
@needs("systemd-analyze")
class SystemdUnitsTest(unittest.TestCase):
    def setUp(self) -> None:
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        for unit in SYSTEMD.glob("c42-proxy.*"):
            # systemd looks whether the program is there.
            text = unit.read_text().replace("/opt/c42-proxy/bin/c42-proxy", "/bin/true")
            (self.folder / unit.name).write_text(text)

    def analyze(self, *arguments: str) -> str:
        ended = run("systemd-analyze", *arguments, environ=dict(os.environ))
        self.assertEqual(0, ended.returncode, ended.stdout + ended.stderr)
        return ended.stdout + ended.stderr

    def test_valid(self) -> None:
        """systemd has nothing to say of the units."""
        self.assertEqual("", self.analyze("verify", "--man=no", *map(str, self.folder.iterdir())))

    def test_nginx(self) -> None:
        """Nor of nginx.service with the drop-in; without it, the same service is not right."""
        service = self.folder / "nginx.service"
        drop_in = Path("nginx.service.d", "c42-proxy.conf")
        service.write_text("[Service]\nType=forking\nPIDFile=/run/nginx.pid\nExecStart=/no/nginx\nExecStop=/no/nginx\n")
        self.assertRaises(AssertionError, self.analyze, "verify", "--man=no", str(service))
        (self.folder / drop_in).parent.mkdir()
        text = (SYSTEMD / drop_in).read_text().replace("/usr/sbin/nginx", "/bin/true")
        (self.folder / drop_in).write_text(text)
        self.assertEqual("", self.analyze("verify", "--man=no", str(service)))

    def test_nginx_stops(self) -> None:
        """systemd leaves nginx the time that nginx leaves its requests."""
        drop_in = (SYSTEMD / "nginx.service.d" / "c42-proxy.conf").read_text()
        (given,) = re.findall(r"^TimeoutStopSec=(\d+)$", drop_in, re.MULTILINE)
        (needed,) = re.findall(r"^worker_shutdown_timeout (\d+)s;$", (NGINX / "nginx.conf").read_text(), re.MULTILINE)
        self.assertGreater(int(given), int(needed))

    def test_hardened(self) -> None:
        """systemd's own score is at most 1.5 of 10."""
        self.analyze("security", "--offline=true", "--threshold=15", str(self.folder / "c42-proxy.service"))

    def test_addresses(self) -> None:
        """The socket unit listens where the proxy does by default."""
        listens = re.findall(r"^ListenStream=(.+)$", (SYSTEMD / "c42-proxy.socket").read_text(), re.MULTILINE)
        self.assertEqual([Settings.model_fields[name].default for name in ("bind", "ops_bind")], listens)

    def test_cache(self) -> None:
        """The default store lies in the only folder that the service may write to."""
        unit = (SYSTEMD / "c42-proxy.service").read_text()
        (folder,) = re.findall(r"^CacheDirectory=(.+)$", unit, re.MULTILINE)
        (home,) = re.findall(r"^Environment=XDG_CACHE_HOME=(.+)$", unit, re.MULTILINE)
        with patch.dict(os.environ, XDG_CACHE_HOME=home.replace("%C", "/var/cache")):
            self.assertIn(Path("/var/cache", folder), default_file().parents)

    def test_stop(self) -> None:
        """A stop leaves a miss twice the budget, and 5 s."""
        (seconds,) = re.findall(r"^TimeoutStopSec=(\d+)$", (SYSTEMD / "c42-proxy.service").read_text(), re.MULTILINE)
        self.assertGreater(int(seconds), 2 * Settings.model_fields["timeout"].default + 5)
