"""The lab finds a cache that is late, and only that; a program that is missing is named."""

import sys
import time
import unittest
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from harness.processes import clean_environ, run
from harness.stack import ask
from tools.interop.__main__ import table, unlike_documented
from tools.interop.caches import Ask, Cache
from tools.interop.lab import Life, measured

TTL = 1.0
KEPT_SECONDS = TTL + 0.8


@contextmanager
def keeps_nothing(proxy: int, _folder: Path) -> Iterator[Ask]:
    def ask_for(path: str, request_id: str) -> Mapping[str, str]:
        return {name.lower(): value for name, value in ask(proxy, path, X_Request_ID=request_id).headers}

    yield ask_for


@contextmanager
def asks_each_time(proxy: int, _folder: Path) -> Iterator[Ask]:
    """With the tag of any answer: a 304 has the headers of the answer."""

    def ask_for(path: str, request_id: str) -> Mapping[str, str]:
        answer = ask(proxy, path, X_Request_ID=request_id, If_None_Match="*")
        return {name.lower(): value for name, value in answer.headers}

    yield ask_for


@contextmanager
def keeps_too_long(proxy: int, folder: Path) -> Iterator[Ask]:
    """Keeps each answer for a time that the answer does not name."""
    kept: dict[str, tuple[float, Mapping[str, str]]] = {}
    with keeps_nothing(proxy, folder) as ask_proxy:

        def ask_for(path: str, request_id: str) -> Mapping[str, str]:
            now = time.time()
            if now >= kept.get(path, (0.0,))[0] + KEPT_SECONDS:
                kept[path] = now, ask_proxy(path, request_id)
            return kept[path][1]

        yield ask_for


class LabTest(unittest.TestCase):
    def test_late_and_not_late(self) -> None:
        """A cache that keeps answers for too long is found; those that ask each time are not late; 304s are counted."""
        caches = [
            Cache("keeper", "json", keeps_too_long),
            Cache("passer", "time", keeps_nothing),
            Cache("asker", "sys", asks_each_time),
        ]
        lives = measured(caches, TTL, fractions=[0.5])
        of = {cache.name: [life for life in lives if life.cache == cache.name] for cache in caches}
        self.assertTrue(any(life.is_late and life.reused > 0 for life in of["keeper"]), of["keeper"])
        self.assertFalse(any(life.is_late or life.reused or life.unchanged for life in of["passer"]), of["passer"])
        self.assertTrue(any(life.unchanged for life in of["asker"]), of["asker"])

    def test_what_is_late(self) -> None:
        """An answer may be given before its instant, and no longer at it."""
        for over, is_late in ((-1.0, False), (-0.001, False), (0.0, True), (0.5, True), (float("-inf"), False)):
            self.assertEqual(Life("x", None, over, 0, over).is_late, is_late)

    def test_table(self) -> None:
        """There is a line for each cache and each time; the worst of all rounds counts."""
        lives = [
            Life("one", None, -0.02, 3, -1.3, 2),
            Life("one", None, -0.05, 4, -1.2, 3),
            Life("two", 0.2, -0.02, 0, float("-inf")),
            Life("two", 0.2, 0.75, 1, 0.75),
        ]
        _, one, two, _ = table(lives).splitlines()
        self.assertEqual(one.split(), ["one", "at", "once", "7", "-1.20", "s", "-0.02", "s", "5"])
        self.assertEqual(two.split()[-7:], ["1", "+0.75", "s", "+0.75", "s", "0", "LATE"])

    def test_what_is_documented(self) -> None:
        """A cache that reuses nothing is found, and one that reuses though it asks each time, or asks for the whole."""
        for reuses, reused, unchanged, says in (
            (True, 1, 0, None),
            (True, 0, 1, "x HAS REUSED NOTHING"),
            (False, 0, 1, None),
            (False, 1, 1, "x HAS REUSED an answer"),
            (False, 0, 0, "x HAS GOT NO 304"),
        ):
            cache = Cache("x", "json", keeps_nothing, reuses)
            other = Life("y", None, -1.0, 1 - reused, -1.0, 1 - unchanged)
            # That it reuses an answer that it was given late is not enough.
            late = Life("x", 0.2, -1.0, 1, -1.0) if reuses else other
            found = unlike_documented(cache, [Life("x", None, -1.0, reused, -1.0, unchanged), late, other])
            self.assertEqual(found and found[: len(says or "")], says)

    def test_missing_program(self) -> None:
        """It is named, and nothing is started."""
        command = (sys.executable, "-m", "tools.interop", "--only", "Chromium")
        ended = run(*command, environ=clean_environ(PATH="/nowhere"))
        self.assertEqual((ended.returncode, ended.stdout), (2, ""))
        self.assertIn("not installed: chromium", ended.stderr)
