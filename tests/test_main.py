"""The command line: it explains itself by examples, and says what the proxy runs with."""

import sys
import tempfile
import unittest
from pathlib import Path

from click.testing import Result

from c42_proxy import __version__
from harness.processes import C42_PROXY, clean_environ, run
from tests.commands.command_line import c42_proxy

TOKEN = "s3kr3t-t0k3n"
VARIABLES = [
    *(
        "C42_API_URL",
        "C42_API_TOKEN",
        "C42_CA_FILE",
        "C42_PROXY_URL",
        "C42_ALLOW_ORIGINS",
        "C42_BIND",
        "C42_OPS_BIND",
        "C42_CACHE_URL",
    ),
    *("C42_CACHE_TTL", "C42_CACHE_MAX_BYTES", "C42_STALE_IF_ERROR", "C42_TIMEOUT", "C42_BREAKER_THRESHOLD"),
    *("C42_LOG_FORMAT", "C42_LOG_LEVEL"),
]


class HelpTest(unittest.TestCase):
    def test_examples_first(self) -> None:
        """--help says in one sentence what this is, then gives examples, then options and commands."""
        for option in ("--help", "-h"):
            result = c42_proxy(option)
            self.assertEqual(result.exit_code, 0)
            order = ["Usage: c42-proxy", "4.2 minutes.", "Examples:", "c42-proxy demo", "Options:", "Commands:"]
            places = [result.output.find(text) for text in order]
            self.assertNotIn(-1, places, result.output)
            self.assertEqual(places, sorted(places), result.output)

    def test_names_what_is_needed(self) -> None:
        """--help names the one variable that must be set, the command that lists them all, and every command."""
        output = c42_proxy("--help").output
        for text in ("C42_API_TOKEN=... c42-proxy serve", "`c42-proxy check` lists them all"):
            self.assertIn(text, output)
        commands = output.partition("Commands:")[2]
        for name in ("cache", "check", "demo", "healthcheck", "sandbox", "serve"):
            self.assertRegex(commands, rf"(?m)^  {name} +\S.*\.$")

    def test_fits_a_terminal(self) -> None:
        """Examples keep their lines, and no line of any help is wider than 120 columns."""
        for command in ([], ["serve"], ["check"], ["cache"], ["healthcheck"], ["demo"], ["sandbox"]):
            result = c42_proxy(*command, "--help")
            self.assertEqual(result.exit_code, 0)
            self.assertLessEqual(max(map(len, result.output.splitlines())), 120, result.output)
        self.assertIn('\n    GUNICORN_CMD_ARGS="--workers 4" c42-proxy serve\n', c42_proxy("serve", "--help").output)

    def test_nothing_given(self) -> None:
        """Without a command, the help is shown."""
        result = c42_proxy()
        self.assertIn("Examples:", result.output)

    def test_unknown(self) -> None:
        """An unknown command or option is an error with status 2."""
        for arguments in (["swerve"], ["--swerve"], ["check", "--swerve"], ["serve", "now"]):
            result = c42_proxy(*arguments, C42_API_TOKEN=TOKEN)
            self.assertEqual(result.exit_code, 2, result.output)
            self.assertIn("Usage: c42-proxy", result.output)

    def test_help_needs_no_settings(self) -> None:
        """Help is there whatever the settings are."""
        self.assertEqual(c42_proxy("serve", "--help", C42_TIMEOUT="x").exit_code, 0)

    def test_version(self) -> None:
        """--version names the program and its version."""
        self.assertEqual(c42_proxy("--version").output, f"c42-proxy, version {__version__}\n")


class CheckTest(unittest.TestCase):
    def rows(self, result: Result, status: int = 0) -> dict[str, tuple[str, str]]:
        """(effective value, source) of each variable."""
        self.assertEqual(result.exit_code, status, result.output)
        rows = [line.split(maxsplit=1) for line in result.stdout.splitlines()]
        values = {name: rest.rsplit(maxsplit=1) for name, rest in rows}
        return {name: (value.strip(), source) for name, (value, source) in values.items()}

    def test_defaults(self) -> None:
        """Every setting is listed with the value that is in force; the source says that it is the default."""
        rows = self.rows(c42_proxy("check", C42_API_TOKEN=TOKEN))
        self.assertEqual(list(rows), VARIABLES)
        self.assertEqual(rows.pop("C42_API_TOKEN"), ("**********", "environment"))
        self.assertEqual({source for _value, source in rows.values()}, {"default"})
        self.assertEqual(rows["C42_API_URL"][0], "https://demo.calendar42.com/api/v2/")
        self.assertEqual(rows["C42_CACHE_TTL"][0], "252")

    def test_default_store(self) -> None:
        """Where no store is set, the file that is used is shown, however long its name."""
        for folder in ("/x", f"/{'long' * 20}"):
            result = c42_proxy("check", C42_API_TOKEN=TOKEN, XDG_CACHE_HOME=folder)
            value, source = self.rows(result)["C42_CACHE_URL"]
            self.assertEqual((f"sqlite:///{folder}/c42_proxy/cache.sqlite3", "default"), (value, source))
            ends = {line.rpartition(" ")[0].__len__() for line in result.stdout.splitlines()}
            self.assertEqual(1, len(ends), result.stdout)

    def test_environment(self) -> None:
        """What the environment sets is shown as it is understood, with that source."""
        given = {
            "C42_API_URL": "https://c42.example/api/v2",
            "C42_BIND": "0.0.0.0:80",
            "C42_OPS_BIND": "",
            "C42_TIMEOUT": "2.5",
            "C42_LOG_FORMAT": "json",
            "C42_LOG_LEVEL": "",
        }
        rows = self.rows(c42_proxy("check", C42_API_TOKEN=TOKEN, **given))
        self.assertEqual(rows["C42_API_URL"], ("https://c42.example/api/v2/", "environment"))
        self.assertEqual(rows["C42_BIND"], ("0.0.0.0:80", "environment"))
        self.assertEqual(rows["C42_OPS_BIND"], ("none", "environment"))
        self.assertEqual(rows["C42_TIMEOUT"], ("2.5", "environment"))
        self.assertEqual(rows["C42_LOG_FORMAT"], ("json", "environment"))
        self.assertEqual(rows["C42_LOG_LEVEL"], ("info", "default"))

    def test_token_file(self) -> None:
        """Where the token is from a file, the source is that file."""
        with tempfile.NamedTemporaryFile("w") as file:
            file.write(f"{TOKEN}\n")
            file.flush()
            result = c42_proxy("check", C42_API_TOKEN_FILE=file.name)
            self.assertRegex(result.stdout, rf"(?m)^C42_API_TOKEN +\*+ +file {file.name}$")
            self.assertNotIn(TOKEN, result.output)

    def test_warnings(self) -> None:
        """Warnings go to standard error, and the status stays 0."""
        result = c42_proxy("check", C42_API_TOKEN=TOKEN, C42_TIMEOUTS="1")
        self.assertEqual(result.exit_code, 0)
        self.assertRegex(result.stderr, r"^warning: C42_TIMEOUTS .* Did you mean C42_TIMEOUT\?\n$")
        self.assertNotIn("TIMEOUTS", result.stdout)

    def test_opentelemetry(self) -> None:
        """Where OpenTelemetry's variables switch the spans on, it says where they go, without the password."""
        given = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://user:{TOKEN}@collector.example:4318/"}
        result = c42_proxy("check", C42_API_TOKEN=TOKEN, **given)
        expected = "OpenTelemetry is on: the spans go to http://collector.example:4318/v1/traces"
        self.assertEqual((0, expected), (result.exit_code, result.stdout.splitlines()[-1]), result.output)
        wrong = c42_proxy("check", C42_API_TOKEN=TOKEN, OTEL_TRACES_SAMPLER="always", **given)
        self.assertEqual(2, wrong.exit_code)
        self.assertRegex(wrong.stderr, r"^Error: .*\n  OTEL_TRACES_SAMPLER: allowed are .*\n$")
        self.assertNotIn(TOKEN, result.output + wrong.output)

    def test_mistakes(self) -> None:
        """All mistakes are listed at once on standard error, a line for each, and the status is 2."""
        result = c42_proxy("check", C42_TIMEOUT="x", C42_BIND="y")
        self.assertEqual(result.exit_code, 2)
        self.assertRegex(
            result.stderr,
            r"^Error: the settings are wrong:\n  C42_API_TOKEN: .*\n  C42_BIND: .*\n  C42_TIMEOUT: .*\n$",
        )

    def test_settings_beside_mistakes(self) -> None:
        """All settings are listed then, too, and of the wrong ones that they are wrong, or missing."""
        rows = self.rows(c42_proxy("check", C42_BIND="0.0.0.0:4243", C42_CACHE_TTL="5", C42_TIMEOUT="s3kr3t"), 2)
        self.assertEqual(VARIABLES, list(rows))
        self.assertEqual(("missing", "default"), rows["C42_API_TOKEN"])
        self.assertEqual(("0.0.0.0:4243", "environment"), rows["C42_BIND"])
        self.assertEqual(("wrong", "default"), rows["C42_OPS_BIND"])
        self.assertRegex(rows["C42_CACHE_URL"][0], "^sqlite:////.*/cache.sqlite3$")
        self.assertEqual(("5", "environment"), rows["C42_CACHE_TTL"])
        self.assertEqual(("wrong", "environment"), rows["C42_TIMEOUT"])
        self.assertEqual(("4", "default"), self.rows(c42_proxy("check"), 2)["C42_TIMEOUT"])
        port = self.rows(c42_proxy("check", C42_BIND="x", C42_OPS_BIND=":4242"), 2)["C42_OPS_BIND"]
        self.assertEqual(("0.0.0.0:4242", "environment"), port)
        both = self.rows(c42_proxy("check", C42_API_TOKEN=TOKEN, C42_API_TOKEN_FILE="/none"), 2)
        self.assertEqual(("wrong", "environment"), both["C42_API_TOKEN"])


class ProgramTest(unittest.TestCase):
    def test_both_names(self) -> None:
        """`python -m c42_proxy` and the installed `c42-proxy` are the same command line, in any folder."""
        with tempfile.TemporaryDirectory() as folder:
            for command in (C42_PROXY, (str(Path(sys.executable).with_name("c42-proxy")),)):
                shown = run(*command, "--version", environ=clean_environ(), cwd=Path(folder))
                self.assertEqual((shown.returncode, shown.stdout), (0, f"c42-proxy, version {__version__}\n"))
                checked = run(*command, "check", environ=clean_environ(C42_API_TOKEN=TOKEN), cwd=Path(folder))
                self.assertEqual(checked.returncode, 0)
                self.assertRegex(checked.stderr, r"^The settings are right\..*\n$")
                self.assertEqual(len(checked.stdout.splitlines()), len(VARIABLES))
