"""The log: one shape for every line, from the level that is set, and never with the token in it."""

import io
import json
import logging
import unittest
from base64 import b64encode
from contextlib import redirect_stderr
from typing import Any, Literal
from unittest.mock import patch

from pydantic import SecretStr

from c42_proxy.observability.logs import MASK, configure_logs
from c42_proxy.settings import Settings

TOKEN = "s3kr3t-t0k3n"


class LogsTest(unittest.TestCase):
    """Each test has the log to itself, and finds what went to standard error in `lines`."""

    def setUp(self) -> None:
        root, urllib3 = logging.getLogger(), logging.getLogger("urllib3")
        handlers, level, urllib3_level = root.handlers[:], root.level, urllib3.level
        root.handlers.clear()  # so that the others' handlers are not closed by ours

        def restore() -> None:
            root.handlers[:] = handlers
            root.setLevel(level)
            urllib3.setLevel(urllib3_level)

        self.addCleanup(restore)

    def configure(
        self,
        log_format: Literal["text", "json"] = "text",
        log_level: Literal["debug", "info", "warning", "error", "critical"] = "info",
        token: str = TOKEN,
    ) -> None:
        self.stderr = io.StringIO()
        with redirect_stderr(self.stderr):
            configure_logs(Settings(api_token=SecretStr(token), log_format=log_format, log_level=log_level))
        for handler in logging.getLogger().handlers:
            self.addCleanup(handler.close)

    @property
    def text(self) -> str:
        for handler in logging.getLogger().handlers:
            handler.flush()
        return self.stderr.getvalue()

    @property
    def objects(self) -> list[dict[str, Any]]:
        found = [json.loads(line) for line in self.text.splitlines()]
        self.assertTrue(all(isinstance(each, dict) for each in found))
        return found


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class TextTest(LogsTest):
    def test_line(self) -> None:
        """A line has the time, the level, the message and who says it."""
        self.configure()
        logging.getLogger("c42_proxy.example").warning("%d events and %s", 3, "a name")
        self.assertRegex(
            self.text,
            r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[.\d]*Z \[warning *\] 3 events and a name +\[c42_proxy.example\]\n$",
        )

    def test_colours(self) -> None:
        """A terminal gets colours, unless NO_COLOR is set (no-color.org)."""
        for no_color, is_coloured in (("", True), ("1", False)):
            with patch.dict("os.environ", NO_COLOR=no_color), redirect_stderr(Terminal()) as terminal:
                configure_logs(Settings(api_token=SecretStr(TOKEN)))
            logging.getLogger("c42_proxy").info("said")
            for handler in logging.getLogger().handlers:
                self.addCleanup(handler.close)
                handler.flush()
            self.assertIn("said", terminal.getvalue())
            self.assertEqual(is_coloured, "\x1b" in terminal.getvalue())

    def test_extra(self) -> None:
        """What is given beside the message is in the line."""
        self.configure()
        logging.getLogger("c42_proxy").info("asked", extra={"status": 429, "event": "abc"})
        self.assertIn("status=429", self.text)

    def test_traceback(self) -> None:
        """A traceback follows its line, without the values of local variables."""
        self.configure()
        local = "-".join(["a", "local", "value"])
        try:
            raise LookupError("what happened") from ValueError("why")
        except LookupError:
            logging.getLogger("c42_proxy").exception("a bug")
        self.assertIn("LookupError: what happened", self.text)
        self.assertIn("ValueError: why", self.text)
        self.assertIn("in test_traceback", self.text)
        self.assertNotIn(local, self.text)

    def test_no_colours_outside_a_terminal(self) -> None:
        """No control characters get into a file."""
        self.configure()
        logging.getLogger("c42_proxy").error("red?")
        self.assertNotIn("\x1b", self.text)


class JsonTest(LogsTest):
    def test_line(self) -> None:
        """A line is one object with the time, the level, the message, who says it, and what else was given."""
        self.configure("json")
        logging.getLogger("c42_proxy.example").info("%d names", 3, extra={"first": "Ελένη", "odd": {1}})
        (line,) = self.objects
        self.assertRegex(line.pop("timestamp"), r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[.\d]*Z$")
        self.assertEqual(
            line,
            {
                "event": "3 names",
                "level": "info",
                "logger": "c42_proxy.example",
                "first": "Ελένη",
                "odd": "{1}",
            },
        )

    def test_several_lines_in_one_object(self) -> None:
        """A message with line breaks and a traceback are one line, too."""
        self.configure("json")
        try:
            raise LookupError("first\nsecond")
        except LookupError:
            logging.getLogger("c42_proxy").exception("a\nbug\u2028.")
        (line,) = [json.loads(each) for each in self.text.rstrip("\n").split("\n")]
        self.assertEqual((line["event"], line["level"]), ("a\nbug\u2028.", "error"))
        self.assertIn("LookupError: first\nsecond", line["exception"])
        self.assertIn("Traceback", line["exception"])


class LevelTest(LogsTest):
    def test_levels(self) -> None:
        """Lines below the level are left out, those of it and above are there; for libraries, too."""
        levels: list[Literal["debug", "info", "warning", "error", "critical"]]
        levels = ["debug", "info", "warning", "error", "critical"]
        for number, level in enumerate(levels):
            for name in ("c42_proxy.example", "werkzeug.example", "some.library"):
                with self.subTest(level, logger=name):
                    self.configure("json", level)
                    for each in levels:
                        logging.getLogger(name).log(getattr(logging, each.upper()), "line")
                    self.assertEqual([line["level"] for line in self.objects], levels[number:])

    def test_configured_twice(self) -> None:
        """To configure the log again replaces the first configuration: a line comes once."""
        self.configure()
        self.configure("json")
        logging.getLogger("c42_proxy").info("line")
        self.assertEqual(len(self.objects), 1)

    def test_urllib3_does_not_quote(self) -> None:
        """urllib3's warnings quote what it received: they are left out, also at the level of debug."""
        self.configure("json", "debug")
        logging.getLogger("urllib3.connection").warning("Failed to parse headers: Authorization: Token x")
        self.assertEqual(self.text, "")


class TokenTest(LogsTest):
    def say_it_everywhere(self, token: str) -> None:
        log = logging.getLogger("c42_proxy")
        log.error(f"message {token}")
        log.error("argument %s", f"Token {token}")
        log.error("representation %r %s", token, {"headers": [token, token.encode()]})
        log.error("extra", extra={"header": token, "headers": {"Authorization": f"Token {token}"}, token: "name"})
        try:
            try:
                raise ValueError(token)
            except ValueError as exc:
                raise LookupError({"token": token}) from exc
        except LookupError:
            log.exception("traceback")
        logging.getLogger(f"some.library.{token}").error("logger's name")

    def test_masked(self) -> None:
        """The token is blotted out in messages, arguments, extras, names and tracebacks, in both formats."""
        for log_format in ("text", "json"):
            # The odd ones are written in another way by `repr` and by JSON.
            for token in (TOKEN, 'quote"quote', "quote'quote", "both'\"both", "back\\slash", "\\'\"\\\\", "100%s{}"):
                with self.subTest(log_format, token=token):
                    self.configure("json" if log_format == "json" else "text", token=token)
                    self.say_it_everywhere(token)
                    shown = self.text
                    if log_format == "json":
                        shown = "\n".join(f"{value}" for line in self.objects for value in flat(line))
                    for spelling in (token, repr(token)[1:-1], json.dumps(token)[1:-1]):
                        self.assertNotIn(spelling, shown)
                    self.assertGreaterEqual(shown.count(MASK), 10)
                    for said in ("message", "argument", "representation", "extra", "traceback", "logger's name"):
                        self.assertIn(said, shown)

    def test_passwords(self) -> None:
        """The passwords of the HTTP proxy and of the store are blotted out, in each of their spellings."""
        self.stderr = io.StringIO()
        settings = Settings(
            api_token=SecretStr(TOKEN),
            proxy_url="http://ford:p%40ssw0rd@proxy:8080",
            cache_url="redis://:pre%2Ffect@redis",
        )
        with redirect_stderr(self.stderr):
            configure_logs(settings)
        for handler in logging.getLogger().handlers:
            self.addCleanup(handler.close)
        said = (settings.proxy_url, settings.cache_url, "p@ssw0rd", "pre/fect", b64encode(b"ford:p@ssw0rd").decode())
        for text in said:
            logging.getLogger("c42_proxy").warning("%s and %s", text, TOKEN)
        self.assertEqual(len(self.text.splitlines()), self.text.count(f"and {MASK}"))
        for secret in (*said, "p%40ssw0rd", "pre%2Ffect", TOKEN):
            self.assertNotIn(str(secret), self.text)

    def test_the_rest_stays(self) -> None:
        """Nothing but the token is blotted out."""
        self.configure("json")
        logging.getLogger("c42_proxy").info(f"before {TOKEN} after {TOKEN[:-1]}")
        self.assertEqual(self.objects[0]["event"], f"before {MASK} after {TOKEN[:-1]}")


def flat(value: object) -> list[object]:
    """All keys and values of a JSON text, however deep."""
    if isinstance(value, dict):
        return [each for pair in value.items() for part in pair for each in flat(part)]
    if isinstance(value, list):
        return [each for part in value for each in flat(part)]
    return [value]
