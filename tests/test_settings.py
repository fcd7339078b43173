"""The settings: what each variable may be, what is said of a wrong one, and that no secret shows."""

import os
import tempfile
import traceback
import unittest
from base64 import b64encode
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

import requests
from click.testing import Result
from pydantic import ValidationError

from c42_proxy.errors import SettingsError
from c42_proxy.settings import Settings
from harness.needs import needs
from harness.processes import C42_PROXY, clean_environ, run
from harness.tls import Authority
from tests.commands.command_line import c42_proxy

TOKEN = "s3kr3t-t0k3n"
PASSWORD = "s3kr3t-p4ssw0rd"

SECONDS = "a number of seconds"
ADDRESS = "with a port up to 65535"
CACHES = "memory://, sqlite:///file without ~ at its start, redis://host:port/db (valkey:// is the same, "


def settings(**variables: str) -> Settings:
    """The settings of an environment with a token and these variables."""
    return Settings.from_env({"C42_API_TOKEN": TOKEN, **variables})


def refused(variables: dict[str, str]) -> SettingsError:
    """The error that an environment of exactly these variables ends in."""
    try:
        accepted = Settings.from_env(variables)
    except SettingsError as error:
        return error
    raise AssertionError(f"accepted: {accepted!r}")


def check(variables: dict[str, str]) -> Result:
    """`c42-proxy check`, in this process."""
    return c42_proxy("check", **variables)


class DefaultsTest(unittest.TestCase):
    def test_only_the_token_is_needed(self) -> None:
        """With nothing but a token, everything has the value that the documentation names."""
        found = settings()
        self.assertEqual(found.api_url, "https://demo.calendar42.com/api/v2/")
        self.assertEqual(found.api_token.get_secret_value(), TOKEN)
        self.assertEqual((found.bind, found.ops_bind), ("127.0.0.1:4242", "127.0.0.1:4243"))
        self.assertEqual((found.cache_ttl, found.cache_max_bytes), (252, 67_108_864))
        self.assertEqual((found.stale_if_error, found.timeout, found.breaker_threshold), (3600, 4, 5))
        self.assertEqual((found.log_format, found.log_level), ("text", "info"))
        self.assertIsNone(found.cache_url)
        self.assertEqual((found.allow_origins, found.origins), (None, []))
        self.assertEqual(found.warnings, ())

    def test_empty_counts_as_unset(self) -> None:
        """An empty variable is as good as none."""
        names = [
            *(
                "API_URL",
                "API_TOKEN_FILE",
                "ALLOW_ORIGINS",
                "BIND",
                "CACHE_URL",
                "CACHE_TTL",
                "CACHE_MAX_BYTES",
                "STALE_IF_ERROR",
            ),
            *("TIMEOUT", "BREAKER_THRESHOLD", "LOG_FORMAT", "LOG_LEVEL", "NONSENSE"),
        ]
        self.assertEqual(settings(**{f"C42_{name}": "" for name in names}), settings())

    def test_empty_ops_bind_means_none(self) -> None:
        """An empty C42_OPS_BIND switches the ops port off."""
        self.assertIsNone(settings(C42_OPS_BIND="").ops_bind)

    def test_other_variables_are_not_ours(self) -> None:
        """Variables without our prefix, in capitals, are neither read nor warned about."""
        self.assertEqual(settings(TIMEOUT="9", c42_timeout="9", XC42_TIMEOUT="9"), settings())
        self.assertEqual(settings(c42_timeout="9", XC42_TIMEOUT="9").warnings, ())

    def test_warnings_are_no_setting(self) -> None:
        """What is said of a strange variable is shown nowhere among the settings."""
        found = settings(C42_NONSENSE="1")
        self.assertTrue(found.warnings)
        self.assertNotIn("NONSENSE", repr(found))
        self.assertNotIn("warnings", found.model_dump())

    def test_cannot_be_changed(self) -> None:
        """Settings are fixed once they are read."""
        with self.assertRaises(ValidationError):
            settings().timeout = 9  # type: ignore[misc]  # that is the point


class ValuesTest(unittest.TestCase):
    def assert_accepted(self, variable: str, **values: object) -> None:
        """Each keyword is what is written, the value what it is read as."""
        for written, read in values.items():
            with self.subTest(variable, written=written):
                found = settings(**{variable: written})
                self.assertEqual(getattr(found, variable.removeprefix("C42_").lower()), read)

    def assert_refused(self, variable: str, allowed: str, *values: str) -> None:
        """One line that names the variable and says what is allowed, and does not repeat what was given."""
        for written in values:
            with self.subTest(variable, written=written[:40]):
                (line,) = refused({"C42_API_TOKEN": TOKEN, variable: written}).lines
                self.assertTrue(line.startswith(f"{variable}: "), line)
                self.assertIn(allowed, line)

    def test_api_url(self) -> None:
        """C42's address is http or https; a slash at its end is added where it is missing."""
        self.assert_accepted(
            "C42_API_URL",
            **{
                "https://c42.example/api/v2/": "https://c42.example/api/v2/",
                "http://c42.example:8042/api/v2": "http://c42.example:8042/api/v2/",
                "https://c42.example": "https://c42.example/",
                "http://[::1]:4244/api/v2/": "http://[::1]:4244/api/v2/",
            },
        )

    def test_wrong_api_url(self) -> None:
        """An address of another kind, or with a user, a query or a fragment, is refused."""
        self.assert_refused(
            "C42_API_URL",
            "an http:// or https:// address without user, query and fragment",
            *("c42.example", "ftp://c42.example/", "https://", "file:///etc/passwd", "https://user@c42.example/"),
            *("https://.example/", "https://*.example/"),
            *("https://user:word@c42.example/", "https://c42.example/?a=b", "https://c42.example/#a"),
            *("https://c42.example:99999/", "https://c42.example:port/", "\udcff", "x" * 100_000),
        )

    def test_origins(self) -> None:
        """One origin, a list with or without spaces, or all of them; of any scheme, with a port of its own."""
        for written, origins in (
            ("https://app.example", ["https://app.example"]),
            (
                "https://a.example,http://localhost:3000 , http://[::1]:8",
                ["https://a.example", "http://localhost:3000", "http://[::1]:8"],
            ),
            ("https://a.example:65535", ["https://a.example:65535"]),
            ("capacitor://localhost, http://a_b.example:443", ["capacitor://localhost", "http://a_b.example:443"]),
            ("*", ["*"]),
        ):
            self.assertEqual(settings(C42_ALLOW_ORIGINS=written).origins, origins)

    def test_wrong_origins(self) -> None:
        """What no browser sends as an Origin is refused: it would permit nothing. `null` would permit anybody."""
        self.assert_refused(
            "C42_ALLOW_ORIGINS",
            "* or a comma-separated list of origins as browsers send them",
            *("app.example", "https://", "https://app.example/", "https://App.example", "HTTPS://app.example", "null"),
            *("https://app.example:443", "http://app.example:80", "https://a.example:0", "https://a.example:65536"),
            *(
                "https://a.example,",
                ",https://a.example",
                "https://a.example https://b.example",
                " ",
                "*,https://a.example",
            ),
            *(
                "https://*.app.example",
                "https://user@app.example",
                "https://app.example?a",
                "https://[::1",
                "a,b",
                "* ",
            ),
            *(
                "https://a.example\n",
                'https://a.example"',
                "https://a.example|",
                "https://é.example",
                "https://a.example;",
            ),
        )

    def test_addresses_to_listen_at(self) -> None:
        """Hosts are names or addresses, IPv6 in brackets; the port is a number up to 65535."""
        for variable in ("C42_BIND", "C42_OPS_BIND"):
            for written in ("127.0.0.1:1", "0.0.0.0:65535", "localhost:8080", "[::1]:4244", "[::]:80", "host-1.x:5"):
                self.assert_accepted(variable, **{written: written})
            self.assert_accepted(variable, **{":4244": "0.0.0.0:4244"})

    def test_ops_port_of_its_own(self) -> None:
        """The proxy knows the ops port by its number, so it must have one that differs from the public port's."""
        self.assert_refused("C42_OPS_BIND", ADDRESS, "127.0.0.1:0", "127.0.0.2:4242")

    def test_ops_port_by_default(self) -> None:
        """The default ops port must not be the public one either."""
        (line,) = refused({"C42_API_TOKEN": TOKEN, "C42_BIND": "0.0.0.0:4243"}).lines
        self.assertTrue(line.startswith("C42_OPS_BIND: "), line)
        self.assertEqual(settings(C42_BIND="0.0.0.0:4243", C42_OPS_BIND="").bind, "0.0.0.0:4243")

    def test_wrong_addresses_to_listen_at(self) -> None:
        """No host, no port, a port too high, a path or a scheme: refused."""
        for variable in ("C42_BIND", "C42_OPS_BIND"):
            self.assert_refused(
                variable,
                ADDRESS,
                *("localhost", ":", "localhost:", "localhost:65536", "localhost:123456", "localhost:-1", "4242"),
                *("::1:4242", "[::1]", "http://localhost:80", "localhost:80/", "localhost:80\n", "local host:80"),
                *("unix:/run/c42.sock", "localhost:٤٢", "a:80,b:81"),
            )

    def test_cache_url(self) -> None:
        """Memory, a file by a relative (three slashes) or absolute (four) path, or a Redis."""
        for written in (
            *("memory://", "sqlite:////var/lib/c42/cache.db"),
            *("redis://localhost", "redis://localhost/", "redis://localhost:6379/0", "rediss://redis.example:6380/12"),
            *(f"redis://:{PASSWORD}@localhost:6379/0", f"redis://user:{PASSWORD}@[::1]:6379/1"),
        ):
            self.assert_accepted("C42_CACHE_URL", **{written: written})
        for written in ("cache.db", "a/b.db"):
            self.assert_accepted("C42_CACHE_URL", **{f"sqlite:///{written}": f"sqlite:///{os.getcwd()}/{written}"})

    @needs("openssl")
    def test_file_of_a_cache_url(self) -> None:
        """A file in the address of a Redis may have a relative name, too."""
        folder = Path(self.enterContext(tempfile.TemporaryDirectory()), "a b")
        folder.mkdir()
        file = Authority(folder).file
        name = quote(os.path.relpath(file))
        whole = f"rediss://h?ssl_certfile={os.getcwd()}/{name}"
        self.assert_accepted("C42_CACHE_URL", **{f"rediss://h?ssl_certfile={name}": whole})

    def test_wrong_cache_url(self) -> None:
        """Another scheme, no file, too few slashes: refused. For a Redis, it is said what is wrong."""
        self.assert_refused(
            "C42_CACHE_URL",
            CACHES,
            *(
                "memory",
                "memory:",
                "memory:///",
                "memory://x",
                "MEMORY://",
                "cache.db",
                "/cache.db",
                "file:///cache.db",
            ),
            *("sqlite:", "sqlite://", "sqlite:///", "sqlite:////", "sqlite:cache.db", "sqlite:/cache.db"),
            *("sqlite:///:memory:", "sqlite:////:memory:", "sqlite:///~/cache.db", "sqlite:///~user/cache.db"),
            *("sqlite://cache.db", "sqlite:///folder/", "http://localhost:6379/0", "memcached://localhost"),
        )
        self.assert_refused("C42_CACHE_URL", "expected is host or host:port, with a port from 1", "redis://:6379/0")

    def test_proxy_url(self) -> None:
        """An HTTP proxy has a host, a port, and perhaps a user and a password."""
        for written in (
            *(
                "http://proxy.example:80",
                "http://proxy.example:3128",
                "http://[::1]:8888",
                "http://user@proxy.example:1",
            ),
            *(f"http://user:{PASSWORD}@proxy.example:3128", "http://user:p%40ss%2F%25%20w@proxy.example:3128"),
        ):
            self.assert_accepted("C42_PROXY_URL", **{written: written, f"{written}/": written})

    def test_wrong_proxy_url(self) -> None:
        """Another scheme, no host or port, a path, a query, or a password that is ambiguous or unsendable: refused."""
        self.assert_refused(
            "C42_PROXY_URL",
            "http://host:port or http://user:password@host:port",
            *(
                "proxy.example:3128",
                "https://proxy.example:3128",
                "socks5://proxy.example:1080",
                "http://",
                "http://:3128",
            ),
            *(
                "http://proxy.example:99999",
                "http://proxy.example:port",
                "http://proxy.example:1/path",
                "http://a:1/?b",
                "http://a:1/#b",
            ),
            *(
                f"http://user:{PASSWORD}/@proxy.example:1",
                f"http://user:{PASSWORD} @proxy:1",
                "http://user:%E2%82%AC@proxy:1",
            ),
            *("http://u:pass\\word@proxy:1", "http://proxy.example:1\n", "http://pröxy.example:1", "\udcff"),
            *("http://proxy.example", "http://proxy.example:", "http://u:p@proxy", "http://[::1]"),
            *("http://u:p@ss@proxy:1", "http://u:100%@proxy:1", "http://u:%4@proxy:1", "http://u%:p@proxy:1"),
        )

    def test_ca_file(self) -> None:
        """The authorities are in a PEM file, of which a relative name is kept as an absolute one."""
        certifi = Path(requests.utils.DEFAULT_CA_BUNDLE_PATH)
        self.assert_accepted("C42_CA_FILE", **{str(certifi): str(certifi)})
        self.assert_accepted(
            "C42_CA_FILE", **{os.path.relpath(certifi): str(Path(os.path.relpath(certifi)).absolute())}
        )

    def test_wrong_ca_file(self) -> None:
        """One that is not there, a folder, or one without a certificate is refused, and the line says why."""
        with tempfile.TemporaryDirectory() as folder:
            none, broken = Path(folder, "none"), Path(folder, "broken")
            none.write_text("no certificate")
            broken.write_text("-----BEGIN CERTIFICATE-----\nnone\n-----END CERTIFICATE-----\n")
            for why, *names in (
                (" (it holds no certificate in PEM).", str(none), os.devnull),
                (" (a certificate in it is broken).", str(broken)),
                (" (No such file or directory).", "/none/such"),
                (" (Is a directory).", "/etc"),
                (".", "a\x00b"),
            ):
                allowed = f"the name of a readable PEM file with the certificates of authorities{why}"
                self.assert_refused("C42_CA_FILE", allowed, *names)

    def test_seconds(self) -> None:
        """Seconds may have a fraction."""
        self.assert_accepted("C42_CACHE_TTL", **{"0.5": 0.5, "252": 252.0, "31622400": 31_622_400.0, "1e3": 1000.0})
        self.assert_accepted("C42_TIMEOUT", **{"0.001": 0.001, "4": 4.0, "3600": 3600.0})
        self.assert_accepted("C42_STALE_IF_ERROR", **{"0": 0.0, "0.0": 0.0, "3600": 3600.0, "31622400": 31_622_400.0})

    def test_wrong_seconds(self) -> None:
        """No number, no finite one, a negative or too large one: refused, and 0 where nothing could work with it."""
        never = ("nan", "NaN", "inf", "-inf", "Infinity", "1e400", "-1e400", "-1", "-0.001", "four", "4s", "4,2", "0x4")
        self.assert_refused("C42_CACHE_TTL", f"{SECONDS}, more than 0 and at most a year", *never, "0", "31622401")
        self.assert_refused("C42_TIMEOUT", f"{SECONDS}, more than 0 and at most an hour", *never, "0", "3600.1")
        with_0 = "with 0 no expired answer is served"
        self.assert_refused("C42_STALE_IF_ERROR", f"{SECONDS}, at most a year; {with_0}", *never, "31622401")
        self.assert_refused("C42_CACHE_TTL", SECONDS, "1e-400", "9" * 5000, "٤", "4 2", "true", "None")

    def test_whole_numbers(self) -> None:
        """Bytes and failures are whole numbers; with a threshold of 0 failures the breaker never opens."""
        self.assert_accepted("C42_CACHE_MAX_BYTES", **{"1": 1, "67108864": 67_108_864, "1099511627776": 2**40})
        self.assert_accepted("C42_BREAKER_THRESHOLD", **{"0": 0, "1": 1, "100": 100})

    def test_wrong_whole_numbers(self) -> None:
        """A fraction, a negative one, no number, or no bytes at all: refused."""
        never = ("-1", "1.5", "1e3", "nan", "inf", "1e400", "64M", "0x10", "many", "9" * 5000, "true")
        self.assert_refused("C42_CACHE_MAX_BYTES", "a whole number of bytes, 1 or more", *never, "0")
        with_0 = "with 0 the breaker never opens"
        self.assert_refused("C42_BREAKER_THRESHOLD", f"a whole number, 0 or more; {with_0}", *never)

    def test_logs(self) -> None:
        """The log's format and level are one of a few words."""
        self.assert_accepted("C42_LOG_FORMAT", text="text", json="json")
        levels = ("debug", "info", "warning", "error", "critical")
        self.assert_accepted("C42_LOG_LEVEL", **{level: level for level in levels}, INFO="info", Warning="warning")
        self.assert_refused("C42_LOG_FORMAT", "text or json", "xml", "JSON", "json ", "\udcff")
        self.assert_refused("C42_LOG_LEVEL", "debug, info, warning, error or critical", "warn", "trace", "20")

    def test_token(self) -> None:
        """A token is one word of visible ASCII, of 4 characters or more: the log masks it wherever it stands."""
        allowed = "one word of 4 or more visible ASCII characters"
        for token in ("abcd", "~!$%&/()=?\\'\"", "f" * 4096):
            self.assertEqual(settings(C42_API_TOKEN=token).api_token.get_secret_value(), token)
        for token in ("two words", " abc", "abc\n", "ab\tcd", "tøken", "\x7fabc", "abc\x00", "abc"):
            self.assert_refused("C42_API_TOKEN", allowed, token)

    def test_all_at_once(self) -> None:
        """Every wrong variable has its own line in one and the same error, the missing token too."""
        wrong = [
            "API_URL",
            "ALLOW_ORIGINS",
            "BIND",
            "OPS_BIND",
            "CACHE_URL",
            "CACHE_TTL",
            "CACHE_MAX_BYTES",
            "STALE_IF_ERROR",
        ]
        wrong += ["TIMEOUT", "BREAKER_THRESHOLD", "LOG_FORMAT", "LOG_LEVEL"]
        lines = refused({f"C42_{name}": "no, no" for name in wrong}).lines
        self.assertEqual(lines[0].partition(":")[0], "C42_API_TOKEN")
        self.assertEqual([line.partition(":")[0] for line in lines[1:]], [f"C42_{name}" for name in wrong])

    def test_workers(self) -> None:
        """To serve, WEB_CONCURRENCY is a setting like any other; what is wrong beside it is said, too."""
        for timeout, wrong in (("soon", ["C42_TIMEOUT", "WEB_CONCURRENCY"]), ("9", ["WEB_CONCURRENCY"])):
            with self.subTest(timeout), self.assertRaises(SettingsError) as caught:
                Settings.to_serve({"C42_API_TOKEN": TOKEN, "C42_TIMEOUT": timeout, "WEB_CONCURRENCY": "0"})
            self.assertEqual(wrong, [line.split(":")[0] for line in caught.exception.lines])


class TokenFileTest(unittest.TestCase):
    def setUp(self) -> None:
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.file = self.folder / "token"

    def refused(self, name: Path, **variables: str) -> str:
        (line,) = refused({"C42_API_TOKEN_FILE": str(name), **variables}).lines
        return line

    def test_read(self) -> None:
        """The token may be in a file; white space around it, and so the newline at the end, does not count."""
        for written in (TOKEN, f"{TOKEN}\n", f"{TOKEN}\r\n", f"  {TOKEN}\n\n"):
            with self.subTest(written):
                self.file.write_text(written)
                found = Settings.from_env({"C42_API_TOKEN_FILE": str(self.file)})
                self.assertEqual(found.api_token.get_secret_value(), TOKEN)
                self.assertEqual(found.warnings, ())
                self.assertNotIn("token_file", repr(found))
                self.assertNotIn("token_file", found.model_dump())

    def test_no_file(self) -> None:
        """If there is no such file, or it is a folder, the line says so and says what is allowed."""
        for name, why in ((self.folder / "none", "No such file"), (self.folder, "Is a directory")):
            line = self.refused(name)
            self.assertTrue(line.startswith("C42_API_TOKEN_FILE: allowed is the name of a readable file"), line)
            self.assertIn(why, line)

    def test_wrong_content(self) -> None:
        """An empty file, two lines, text that is no token, and bytes that are no text are refused, and not shown."""
        for content in (b"", b"\n", f"{TOKEN}\n{TOKEN}\n".encode(), f"{TOKEN} {TOKEN}".encode(), b"\x00s3kr3t\xff\xfe"):
            with self.subTest(content):
                self.file.write_bytes(content)
                line = self.refused(self.file)
                self.assertTrue(line.startswith("C42_API_TOKEN_FILE: the file must hold your C42 API token"), line)
                self.assertNotIn("s3kr3t", line)

    def test_endless_file(self) -> None:
        """A file without an end does not stop the start from ending."""
        self.assertIn("C42_API_TOKEN_FILE", self.refused(Path("/dev/zero")))

    def test_both(self) -> None:
        """Both token variables at once are an error that names both, even where they agree."""
        self.file.write_text(TOKEN)
        line = self.refused(self.file, C42_API_TOKEN=TOKEN)
        self.assertEqual(line, "C42_API_TOKEN and C42_API_TOKEN_FILE: only one of the two may be set.")

    def test_neither(self) -> None:
        """Without a token, the line names both ways to give one."""
        for variables in ({}, {"C42_API_TOKEN": ""}, {"C42_API_TOKEN": "", "C42_API_TOKEN_FILE": ""}):
            (line,) = refused(variables).lines
            self.assertTrue(line.startswith("C42_API_TOKEN: is not set."), line)
            self.assertIn("C42_API_TOKEN_FILE", line)

    def test_an_empty_other_one(self) -> None:
        """An empty C42_API_TOKEN beside a file counts as unset."""
        self.file.write_text(TOKEN)
        found = Settings.from_env({"C42_API_TOKEN": "", "C42_API_TOKEN_FILE": str(self.file)})
        self.assertEqual(found.api_token.get_secret_value(), TOKEN)

    def test_with_other_mistakes(self) -> None:
        """What is wrong with the token file stands beside what else is wrong, in one line of its own."""
        lines = refused({"C42_API_TOKEN_FILE": str(self.folder), "C42_TIMEOUT": "x"}).lines
        self.assertEqual([line.partition(":")[0] for line in lines], ["C42_API_TOKEN_FILE", "C42_TIMEOUT"])


class SecretFilesTest(unittest.TestCase):
    """Addresses with passwords may be in files, too."""

    GOOD: ClassVar = {
        "C42_PROXY_URL": f"http://user:{PASSWORD}@proxy.example:3128",
        "C42_CACHE_URL": f"redis://:{PASSWORD}@redis.example:6379/0",
    }

    def setUp(self) -> None:
        self.file = Path(self.enterContext(tempfile.TemporaryDirectory()), "secret")

    def test_read(self) -> None:
        """The address is what the file holds; `check` names the file, and masks the rest."""
        for variable, written in self.GOOD.items():
            self.file.write_text(f"{written}\n")
            given = {f"{variable}_FILE": str(self.file)}
            found = settings(**given)
            self.assertEqual(getattr(found, variable.removeprefix("C42_").lower()), written)
            self.assertEqual(found.warnings, ())
            result = check({"C42_API_TOKEN": TOKEN, **given})
            (row,) = (line for line in result.stdout.splitlines() if line.startswith(f"{variable} "))
            self.assertRegex(row, rf"^{variable} +\w+://\*\*\*@\w+.example:\d+/?0? +file {self.file}$")
            self.assertNotIn(PASSWORD, result.output + repr(found))

    def test_refused(self) -> None:
        """No such file, a wrong address in it, and both variables at once: a line each, without the password."""
        begins = {"C42_PROXY_URL": "the file must hold", "C42_CACHE_URL": "an address of Redis begins"}
        for variable, written in self.GOOD.items():
            for content, other, says in (
                (written.replace("://", ":"), {}, f"{variable}_FILE: {begins[variable]} .*"),
                ("", {}, f"{variable}_FILE: the file must hold .*, and nothing else."),
                (None, {}, f"{variable}_FILE: allowed is the name of a readable file with the address in it .*"),
                (written, {variable: written}, f"{variable} and {variable}_FILE: only one of the two may be set."),
            ):
                self.file.unlink(missing_ok=True)
                if content is not None:
                    self.file.write_text(content)
                error = refused({"C42_API_TOKEN": TOKEN, f"{variable}_FILE": str(self.file), **other})
                self.assertRegex("\n".join(error.lines), f"^{says}$")
                self.assertNotIn(PASSWORD, f"{error!r}{error.lines}{error.rows}")
                self.assertIn((variable, "wrong", "environment" if other else f"file {self.file}"), error.rows)

    def test_token_anew(self) -> None:
        """A token in a file is read anew; where that fails, it is an error. One in the environment stays."""
        self.file.write_text(TOKEN)
        given = {"C42_API_TOKEN_FILE": str(self.file)}
        found = Settings.from_env(given)
        self.file.write_text("an0ther-t0k3n\n")
        self.assertEqual(found.with_token_read_anew().api_token.get_secret_value(), "an0ther-t0k3n")
        self.file.write_text("")
        with self.assertRaises(SettingsError) as raised:
            found.with_token_read_anew()
        self.assertTrue(raised.exception.lines[0].startswith("C42_API_TOKEN_FILE: the file must hold"))
        self.assertEqual(settings(), settings().with_token_read_anew())

    def test_secrets(self) -> None:
        """What the log masks: the token, and the passwords as they are written, as they are, and as they are sent."""
        found = settings(C42_PROXY_URL="http://us%40er:p%40ss@proxy:1", C42_CACHE_URL=f"redis://:{PASSWORD}@redis")
        sent = b64encode(b"us@er:p@ss").decode()
        self.assertLessEqual({TOKEN, "p%40ss", "p@ss", sent, PASSWORD}, set(found.secrets()))
        sentinels = "redis+sentinel://:pw-0f-r3dis@one,two/main/0?sentinel_password=s3nt%2Fnel"
        secrets = settings(C42_CACHE_URL=sentinels).secrets()
        self.assertLessEqual({"pw-0f-r3dis", "s3nt%2Fnel", "s3nt/nel"}, set(secrets))
        # Not every `a` of the log is one.
        self.assertNotIn("a", settings(C42_PROXY_URL="http://b:a@proxy:1").secrets())


class WarningsTest(unittest.TestCase):
    def test_unknown_variable(self) -> None:
        """An unknown variable is a warning with the nearest name, and without its value; nothing stops."""
        for name, near in (
            ("C42_TIMEOUTS", "C42_TIMEOUT"),
            ("C42_CACHE_TTI", "C42_CACHE_TTL"),
            ("C42_TOKEN_FILE", "C42_API_TOKEN_FILE"),
            ("C42_LOGLEVEL", "C42_LOG_LEVEL"),
        ):
            (warning,) = settings(**{name: "s3kr3t"}).warnings
            self.assertTrue(warning.startswith(f"{name} is not a setting"), warning)
            self.assertTrue(warning.endswith(f"Did you mean {near}?"), warning)

    def test_several(self) -> None:
        """Each unknown variable has its own warning; where no name is near, none is suggested."""
        warnings = settings(C42_B="1", C42_A="1", C42_="1").warnings
        self.assertEqual([warning.split()[0] for warning in warnings], ["C42_", "C42_A", "C42_B"])
        for name in ("C42_FOO", "C42_A", "C42_"):
            self.assertEqual((f"{name} is not a setting of the proxy.",), settings(**{name: "1"}).warnings)

    def test_beside_what_is_wrong(self) -> None:
        """An unknown variable is named next to what is wrong: it may be the missing one, misspelt."""
        lines = refused({"C42_API_TOKN": TOKEN, "C42_TIMEOUT": "x"}).lines
        self.assertEqual(["C42_API_TOKEN:", "C42_TIMEOUT:", "C42_API_TOKN"], [line.split()[0] for line in lines])
        self.assertTrue(lines[-1].endswith("Did you mean C42_API_TOKEN?"), lines)

    def test_logged(self) -> None:
        """The warnings go to the log when the proxy starts."""
        with self.assertLogs("c42_proxy.settings", "WARNING") as logged:
            settings(C42_TIMEOUTS="1").log_warnings()
        self.assertIn("C42_TIMEOUTS", logged.output[0])


class SecretsTest(unittest.TestCase):
    REDIS = f"redis://:{PASSWORD}@localhost:6379/0"

    def test_representations(self) -> None:
        """Neither the token nor the password of the Redis is in the settings' text, in any form."""
        found = settings(C42_CACHE_URL=self.REDIS)
        for shown in (repr(found), str(found), f"{found}", f"{found.explained({})}", repr([found])):
            self.assertNotIn(TOKEN, shown)
            self.assertNotIn(PASSWORD, shown)

    def test_errors(self) -> None:
        """No value is in an error's text, lines, or traceback with all its causes."""
        wrong = {
            "C42_API_TOKEN": f"{TOKEN} {TOKEN}",
            "C42_API_URL": f"https://user:{PASSWORD}@c42.example:99999/",
            "C42_CACHE_URL": f"redis://:{PASSWORD}@localhost:no",
            "C42_TIMEOUT": PASSWORD,
            "C42_LOG_LEVEL": TOKEN,
        }
        for variables in (wrong, {"C42_API_TOKEN": TOKEN, "C42_API_TOKEN_FILE": PASSWORD}, {**wrong, "C42_BIND": ""}):
            error = refused(variables)
            whole = "".join(traceback.format_exception(error))
            for shown in (str(error), repr(error), error.format_message(), whole):
                self.assertNotIn(TOKEN, shown)
                self.assertNotIn(PASSWORD, shown)

    def test_validation(self) -> None:
        """Nor is it in pydantic's error, if settings are made without an environment."""
        with self.assertRaises(ValidationError) as caught:
            Settings.model_validate({"api_token": f"{TOKEN} {TOKEN}"})
        self.assertNotIn(TOKEN, str(caught.exception))

    def test_check(self) -> None:
        """`check` shows that there is a token and which Redis, and neither secret, whether it succeeds or fails."""
        good = check({"C42_API_TOKEN": TOKEN, "C42_CACHE_URL": self.REDIS, "C42_TOKN": PASSWORD})
        self.assertEqual(good.exit_code, 0, good.output)
        self.assertIn("redis://***@localhost:6379/0", good.output)
        both = f"redis+sentinel://u:{PASSWORD}@a,b/name?sentinel_password={PASSWORD}&sentinel_username={PASSWORD}"
        masked = "redis+sentinel://***@a,b/name?sentinel_password=***&sentinel_username=***"
        self.assertIn(masked, check({"C42_API_TOKEN": TOKEN, "C42_CACHE_URL": both}).output)
        bad = check({"C42_API_TOKEN": f"{TOKEN} x", "C42_CACHE_URL": f"{self.REDIS}x"})
        self.assertEqual(bad.exit_code, 2)
        self.assertIn("C42_CACHE_URL", bad.output)
        others = check({"C42_API_TOKEN": TOKEN, "C42_CACHE_URL": self.REDIS, "C42_TIMEOUT": "x"})
        self.assertEqual(others.exit_code, 2)
        self.assertIn("redis://***@localhost:6379/0", others.output)
        for shown in (good.output, bad.output, others.output):
            self.assertNotIn(TOKEN, shown)
            self.assertNotIn(PASSWORD, shown)


class ExitStatusTest(unittest.TestCase):
    WRONG: ClassVar = {"C42_API_TOKEN": f"{TOKEN} x", "C42_TIMEOUT": "nan", "C42_BIND": "nowhere", "C42_TIMEOUTS": "1"}

    def test_every_way_to_start(self) -> None:
        """`serve`, `check` and Flask's own server end with status 2, a line for each mistake, and nothing started."""
        flask = (C42_PROXY[0], "-m", "flask", "--app", "c42_proxy", "run", "--port", "0")
        for command in ((*C42_PROXY, "serve"), (*C42_PROXY, "check"), flask):
            with self.subTest(command[2:]):
                ended = run(*command, environ=clean_environ(**self.WRONG))
                self.assertEqual(ended.returncode, 2, ended.stderr)
                lines = [line.strip() for line in ended.stderr.splitlines()]
                for variable in ("C42_API_TOKEN", "C42_TIMEOUT", "C42_BIND"):
                    self.assertEqual(sum(line.startswith(f"{variable}: ") for line in lines), 1, ended.stderr)
                whole = ended.stdout + ended.stderr
                for absent in (TOKEN, "Traceback", "gunicorn", "Listening", "Running on"):
                    self.assertNotIn(absent, whole)
