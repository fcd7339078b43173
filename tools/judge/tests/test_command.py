"""Programs that cannot be judged, and what is left of those that can."""

import os
import re
import shlex
import sys
import unittest
from contextlib import closing

from features.drivers.command import Command
from harness.needs import needs, one_platform_is_enough
from harness.processes import ROOT, started_with, until

PYTHON = shlex.quote(sys.executable)
SERVER = f"{PYTHON} -m http.server"
OWN = "".join(os.environ.get(name, "") for name in ("PYTHONPATH", "PYTHONWARNINGS"))
"""What our own programs are told is not for those of others."""
PROGRAMS = {
    "echo an Error; echo 1; exit 3": r"program ended \(status 3\) before it answered .* that it said: an Error$",
    "kill -9 $$": r"program ended \(SIGKILL\) before it answered at its PORT\. It has said nothing\.",
    "exec sleep 61": r"has not answered at 127\.0\.0\.1:(\d+), where \1 is its PORT, .* it listens at no port\.",
    f"exec {SERVER} --bind 127.0.0.2 $PORT": r"it listens at 127\.0\.0\.2:\d+\.",
    f"exec env -u LD_PRELOAD {SERVER} --bind 127.0.0.1 $PORT": r"does not ask the C library for the time",
    'echo "It has $PYTHONPATH$PYTHONWARNINGS."; exit 1': re.escape(f"said: It has {OWN}."),
    f"exec {SERVER} --bind 127.0.0.1 $PORT": "^$",
}
"""What each says that cannot be judged."""


@one_platform_is_enough
@needs("cc")
class CommandTest(unittest.TestCase):
    def test_a_program_that_cannot_be_judged_is_told_why(self) -> None:
        for program, why in PROGRAMS.items():
            with (
                self.subTest(program=program),
                closing(_command(f"sh -c {shlex.quote(program)}", 1 if "sleep" in program else 60)) as command,
            ):
                self.assertRegex(command.why_not(), why)

    def test_a_program_that_is_not_there(self) -> None:
        with closing(_command("no-such-program --port")) as command:
            wanted = "The program cannot be started: No such file or directory (no-such-program --port)."
            self.assertEqual([wanted] * 2, [command.why_not(), command.why_not()])

    def test_what_a_program_leaves_behind_is_ended(self) -> None:
        """Also what has left its group, and has another parent."""
        mark = {"MARK": self.id()}
        words = (
            f"env MARK={self.id()} sh -c {shlex.quote(f'(setsid sleep 60 &); exec {SERVER} --bind 127.0.0.1 $PORT')}"
        )
        with closing(_command(words)) as command:
            self.assertEqual("", command.why_not())
            until(lambda: {name for _pid, name in started_with(mark)} >= {"sleep"}, "the child")
        self.assertEqual(set(), started_with(mark))
        self.assertEqual(
            ["Told to end (SIGTERM), it left processes behind, which were killed: sleep."], [*command.notes]
        )


def _command(words: str, seconds: float = 60) -> Command:
    return Command(words, ROOT, seconds=seconds, elsewhere_seconds=0)
