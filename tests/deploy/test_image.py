"""The image and the containers around it: what their files say, and the image really built and run."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import unittest
from pathlib import Path
from typing import Any

from c42_proxy.sandbox.command import SANDBOX_TOKEN
from c42_proxy.settings import FIELDS, Settings
from harness.needs import needs, one_platform_is_enough
from harness.processes import ROOT, clean_environ, run

TOKEN_FILE = "C42_API_TOKEN_FILE"


def _compose() -> list[str]:
    """The command of a Compose that knows today's specification: Docker's plugin, or the program by itself."""
    beside = Path(sys.executable).with_name("docker-compose")
    for command in (["docker", "compose"], ["docker-compose"], [str(beside)]):
        if shutil.which(command[0]):
            asked = subprocess.run([*command, "version", "--short"], check=False, capture_output=True, text=True)
            if asked.returncode == 0 and not asked.stdout.startswith("1."):
                return command
    return []


COMPOSE = _compose()


@one_platform_is_enough
@needs(COMPOSE[0] if COMPOSE else "docker-compose")
class Containers(unittest.TestCase):
    """docker-compose.yml, as Compose itself understands it."""

    def configured(self, *options: str, **variables: str) -> dict[str, Any]:
        environ = clean_environ(**variables)
        done = run(*COMPOSE, *options, "config", "--format", "json", environ=environ)
        self.assertEqual(0, done.returncode, done.stderr)
        self.assertNotIn("level=warning", done.stderr)
        config: dict[str, Any] = json.loads(done.stdout)
        return config

    def test_stand_in_is_a_profile(self) -> None:
        """Without the profile there are nginx, the proxy and Redis; with it the stand-in C42, too."""
        self.assertEqual({"nginx", "proxy", "redis"}, self.configured()["services"].keys())
        self.assertEqual(
            {"nginx", "proxy", "redis", "sandbox"}, self.configured("--profile", "demo")["services"].keys()
        )

    def test_demo_needs_no_token(self) -> None:
        """Without any setting the proxy asks the stand-in, with the token that opens it, from a secret."""
        config = self.configured("--profile", "demo")
        proxy, sandbox = config["services"]["proxy"], config["services"]["sandbox"]
        self.assertEqual("http://sandbox:4244/api/v2/", proxy["environment"]["C42_API_URL"])
        self.assertEqual(["sandbox", "--bind", "0.0.0.0:4244"], sandbox["command"])
        self.assertEqual(SANDBOX_TOKEN, Path(config["secrets"]["c42-token"]["file"]).read_text().strip())
        self.assertEqual(
            {"condition": "service_healthy", "required": False},
            proxy["depends_on"]["sandbox"],
        )

    def test_token_is_a_secret(self) -> None:
        """A token file is mounted as a secret for the proxy alone, and then the real C42 is asked."""
        config = self.configured(C42_API_TOKEN_FILE="/etc/c42-token")
        proxy = config["services"]["proxy"]
        self.assertEqual("/etc/c42-token", config["secrets"]["c42-token"]["file"])
        self.assertEqual("/run/secrets/c42-token", proxy["environment"][TOKEN_FILE])
        self.assertEqual("/run/secrets/c42-token", proxy["secrets"][0]["target"])
        self.assertEqual("", proxy["environment"]["C42_API_URL"])
        self.assertNotIn("C42_API_TOKEN", proxy["environment"])
        self.assertEqual({""}, {proxy["environment"][name] for name in ("C42_CA_FILE", "C42_PROXY_URL_FILE")})
        self.assertEqual(["proxy"], [name for name, service in config["services"].items() if service.get("secrets")])

    def test_files_on_the_way(self) -> None:
        """The authorities, and the address of the HTTP proxy, are mounted as secrets where they are given."""
        for variable, name in (("C42_CA_FILE", "c42-ca"), ("C42_PROXY_URL_FILE", "c42-proxy-url")):
            config = self.configured(**{variable: "/etc/given"})
            self.assertEqual("/etc/given", config["secrets"][name]["file"])
            self.assertEqual(f"/run/secrets/{name}", config["services"]["proxy"]["environment"][variable])

    def test_settings_pass(self) -> None:
        """Every setting that has a meaning in a container can be given from outside, and none is a mistake."""
        own = {"C42_API_TOKEN", "C42_CA_FILE", "C42_BIND", "C42_OPS_BIND", "C42_CACHE_URL"}
        given = {
            "C42_API_URL": "https://c42.test/api/v2/",
            "C42_ALLOW_ORIGINS": "https://app.example, http://localhost:3000",
            "C42_PROXY_URL": "http://proxy.test:3128",
            "C42_CACHE_TTL": "251",
            "C42_CACHE_MAX_BYTES": "1000000",
            "C42_STALE_IF_ERROR": "60",
            "C42_TIMEOUT": "3",
            "C42_BREAKER_THRESHOLD": "7",
            "C42_LOG_FORMAT": "text",
            "C42_LOG_LEVEL": "error",
        }
        self.assertEqual(FIELDS.keys() - own, given.keys())
        for token_file in ({}, {TOKEN_FILE: "/etc/c42-token"}):
            environment = self.configured(**given, **token_file)["services"]["proxy"]["environment"]
            self.assertEqual(given, {name: environment[name] for name in given})
            # The file is in the container alone.
            checked = {name: value for name, value in environment.items() if value and name != TOKEN_FILE}
            self.assertEqual((), Settings.from_env({**checked, "C42_API_TOKEN": "s3kr3t"}).warnings)

    def test_each_waits_until_the_other_is_well(self) -> None:
        """Everything has a health check, and nothing starts before what it needs is healthy."""
        services = self.configured("--profile", "demo")["services"]
        for name, service in services.items():
            with self.subTest(name):
                if name != "proxy":  # its image has one
                    self.assertEqual("CMD", service["healthcheck"]["test"][0])
                conditions = {needed["condition"] for needed in service.get("depends_on", {}).values()}
                self.assertLessEqual(conditions, {"service_healthy"})
        self.assertEqual({"redis", "sandbox"}, services["proxy"]["depends_on"].keys())
        self.assertEqual({"proxy"}, services["nginx"]["depends_on"].keys())

    def test_each_has_little_power(self) -> None:
        """Each container is bounded, has a read-only root and no capability, and gains none."""
        for name, service in self.configured("--profile", "demo")["services"].items():
            with self.subTest(name):
                self.assertTrue(service["read_only"])
                self.assertEqual(["ALL"], service["cap_drop"])
                self.assertEqual(["no-new-privileges:true"], service["security_opt"])
                self.assertEqual({"cpus", "memory", "pids"}, service["deploy"]["resources"]["limits"].keys())
                self.assertTrue(all("size=" in mount for mount in service["tmpfs"]))
                if service["image"] != "c42-proxy":  # that one has a user of its own
                    self.assertRegex(service["user"], r"^[1-9][0-9]*:[1-9][0-9]*$")

    def test_redis_is_a_cache(self) -> None:
        """Redis has a bound below that of its container, evicts what is used least, and writes nothing down."""
        redis = self.configured()["services"]["redis"]
        words = redis["command"]
        options = dict(zip(words[1::2], words[2::2], strict=True))
        self.assertEqual("allkeys-lru", options["--maxmemory-policy"])
        self.assertEqual(("", "no"), (options["--save"], options["--appendonly"]))
        bound = int(options["--maxmemory"].removesuffix("mb")) * 1024 * 1024
        self.assertLess(bound, int(redis["deploy"]["resources"]["limits"]["memory"]))

    def test_only_nginx_is_reached(self) -> None:
        """Only nginx has a port outside, on loopback unless told; Redis has no way out."""
        config = self.configured()
        self.assertEqual(["nginx"], [name for name, service in config["services"].items() if service.get("ports")])
        self.assertEqual("127.0.0.1", config["services"]["nginx"]["ports"][0]["host_ip"])
        self.assertEqual({"back"}, config["services"]["redis"]["networks"].keys())
        self.assertTrue(config["networks"]["back"]["internal"])

    def test_nginx_is_told_the_origins(self) -> None:
        """nginx gets the same C42_ALLOW_ORIGINS as the proxy: as a file, which its container writes at the start."""
        for given in ({}, {"C42_ALLOW_ORIGINS": "https://app.example, http://localhost:3000"}):
            nginx = self.configured(**given)["services"]["nginx"]
            shell, option, script = nginx["entrypoint"]
            folder = self.enterContext(tempfile.TemporaryDirectory())
            script = script.replace("$$", "$").replace("/var/cache/nginx", folder).replace("exec nginx", "true")
            environ = {name: value for name, value in nginx["environment"].items() if value is not None}
            done = run(shell, option, script, environ=clean_environ(**environ))
            self.assertEqual(0, done.returncode, done.stderr)
            expected = f'map "" $allow_origins {{ default "{given.get("C42_ALLOW_ORIGINS", "")}"; }}'
            self.assertEqual(expected, Path(folder, "origins.conf").read_text())

    def test_nginx_has_its_files(self) -> None:
        """nginx gets the very files of deploy/nginx, and room for its cache and what it makes beside it."""
        nginx = self.configured()["services"]["nginx"]
        mounted = {mount["target"]: Path(mount["source"]) for mount in nginx["volumes"] if mount["read_only"]}
        self.assertEqual(ROOT / "deploy/nginx/nginx.conf", mounted["/etc/nginx/nginx.conf"])
        included = re.findall(r"^\s*include place/(\S+);", mounted["/etc/nginx/nginx.conf"].read_text(), re.MULTILINE)
        # Of edge/, each place has what it wants.
        self.assertLessEqual({*included} - {"edge/*.conf"}, {*os.listdir(mounted["/etc/nginx/place"])})
        hosts = re.findall(r"^server (\S+)", (mounted["/etc/nginx/place"] / "hosts.conf").read_text(), re.MULTILINE)
        self.assertEqual({"proxy:4242"}, set(hosts))


class Recipe(unittest.TestCase):
    """The Dockerfile and what it reads."""

    text = (ROOT / "Dockerfile").read_text()
    final = text.rpartition("\nFROM ")[2]

    def test_forms(self) -> None:
        """Command, entrypoint and health check are in exec form; signals reach the proxy, not a shell."""
        for instruction, words in (
            ("ENTRYPOINT", ["c42-proxy"]),
            ("CMD", ["serve"]),
            (r"HEALTHCHECK .* CMD", ["c42-proxy", "healthcheck"]),
        ):
            found = re.search(rf"^{instruction} (\[.*\])$", self.final, re.MULTILINE)
            self.assertEqual(words, json.loads(found[1]) if found else None)

    def test_final_stage(self) -> None:
        """The final stage has another stage's outcome, a numeric user, and runs nothing."""
        self.assertRegex(self.final, r"(?m)^USER [1-9][0-9]*:[1-9][0-9]*$")
        self.assertRegex(self.final, r"(?m)^COPY --from=build /opt/c42-proxy /opt/c42-proxy$")
        self.assertNotRegex(self.final, r"(?m)^(RUN|ADD)\b")
        self.assertEqual(2, len(re.findall(r"(?m)^FROM \$\{PYTHON_IMAGE\}", self.text)))

    def test_packages_are_pinned(self) -> None:
        """Everything from outside is installed by hash; the rest without looking outside."""
        text = self.text.replace("\\\n", " ")
        commands = re.findall(r"bin/pip (?:--python \S+ )?(?:install|wheel)([^&\n]*)", text)
        self.assertEqual(4, len(commands))
        for command in commands:
            self.assertRegex(command, "--require-hashes|--no-index")

    def test_context_is_what_is_copied(self) -> None:
        """.dockerignore lets through what the Dockerfile copies, and nothing else."""
        lines = (ROOT / ".dockerignore").read_text().splitlines()
        rules = [line for line in lines if line and not line.startswith("#")]
        self.assertEqual("*", rules[0])
        copied = {path for words in re.findall(r"(?m)^COPY (?!--from)(.+)$", self.text) for path in words.split()[:-1]}
        self.assertEqual(copied, {rule[1:] for rule in rules if rule.startswith("!")} - {"deploy"})


@one_platform_is_enough
@needs("git")
class Revision(unittest.TestCase):
    def test_a_project_around_it(self) -> None:
        """The image names no commit of a project in whose folders the files happen to lie."""
        folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        script, docker = folder / "unpacked" / "scripts" / "image", folder / "docker"
        script.parent.mkdir(parents=True)
        shutil.copy(ROOT / "scripts" / "image", script)
        docker.write_text('#!/bin/sh\necho "$@"\n')
        docker.chmod(0o700)
        who = ["-c", "user.name=Arthur", "-c", "user.email=arthur@example.org"]
        environ = clean_environ(PATH=f"{folder}:{os.environ['PATH']}")
        for around, revision in ((folder, "unknown"), (script.parent.parent, "[0-9a-f]{40}-dirty")):
            for words in (["init", "--quiet"], ["add", str(script)], ["commit", "--quiet", "--message", "Begin"]):
                self.assertEqual(0, run("git", "-C", str(around), *who, *words, environ=environ).returncode)
            script.write_text(script.read_text() + "\n")
            built = run(sys.executable, str(script), "build", "--engine", "docker", environ=environ)
            self.assertRegex(built.stderr, f"--build-arg REVISION={revision} ")


class Pins(unittest.TestCase):
    """deploy/requirements*.txt, made by `make pins`, in step with pyproject.toml."""

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())

    def assert_in_step(self, wanted: list[str], name: str) -> None:
        text = (ROOT / "deploy" / name).read_text()
        blocks = re.findall(r"(?m)^([a-z0-9-]+)==([0-9.]+)(.*\n(?:[ ]+.*\n)*)", text)
        pinned = {package: version for package, version, _rest in blocks}
        self.assertEqual(len(re.findall(r"(?m)^[a-zA-Z]", text)), len(pinned))
        direct = set()
        for requirement in wanted:
            package, _, versions = requirement.partition(">=")
            at_least, _, below = versions.partition(",<")
            direct.add(package)
            self.assertIn(package, pinned, "run `make pins`")
            self.assertGreaterEqual(_numbers(pinned[package]), _numbers(at_least), f"{package}: run `make pins`")
            self.assertTrue(not below or _numbers(pinned[package]) < _numbers(below), f"{package}: run `make pins`")
        for package, _version, rest in blocks:
            self.assertIn("--hash=sha256:", rest, package)
            via = set(re.findall(r"(?m)^ +# +(?:via )?([a-z0-9-]+)(?: \(pyproject.toml\))?$", rest))
            self.assertTrue(package in direct or via & pinned.keys(), f"nothing needs {package}: run `make pins`")

    def test_what_the_proxy_needs(self) -> None:
        """Each dependency is pinned, new enough and with hashes, and nothing is that nobody needs."""
        project = self.project["project"]
        self.assert_in_step([*project["dependencies"], *project["optional-dependencies"]["otel"]], "requirements.txt")

    def test_what_the_build_needs(self) -> None:
        """The build's own are pinned, too, and so is what writes the SBOM."""
        wanted = self.project["build-system"]["requires"] + self.project["dependency-groups"]["sbom"]
        self.assert_in_step(wanted, "requirements-build.txt")


def _numbers(version: str) -> list[int]:
    return [int(number) for number in version.split(".")]


if __name__ == "__main__":
    unittest.main()
