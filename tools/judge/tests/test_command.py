"""Programs that cannot be judged, and what is left of those that can."""

import os
import re
import shlex
import signal
import subprocess
import sys
import unittest
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from features.drivers.command import Command, see_that_time_can_jump
from harness.needs import needs, one_platform_is_enough
from harness.processes import ROOT, Process, started_with, until

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

    def test_a_program_that_has_ended_meanwhile(self) -> None:
        """What listened at the port a moment ago may be gone when it is looked into."""
        with subprocess.Popen("true") as ended:
            ended.wait()
        with self.assertRaisesRegex(AssertionError, r"has ended, or may not be looked into \(No such file"):
            see_that_time_can_jump(ended.pid)

    def test_a_judgement_that_is_broken_off_while_the_program_starts(self) -> None:
        """It ends the program, says so in a sentence, and does not say by its status that a rule is broken."""
        for number in (signal.SIGTERM, signal.SIGINT):
            with self.subTest(number), TemporaryDirectory() as folder:
                mark = {"MARK": folder}
                words = [f"{ROOT}/scripts/judge", "--", "sleep", "61"]
                with Process(words, {**os.environ, **mark}, Path(folder)) as judge:
                    until(lambda: "sleep" in {name for _pid, name in started_with(mark)}, "the program")  # noqa: B023  # called at once
                    judge.send(number)
                    self.assertEqual((2, "The judgement was broken off.\n"), (judge.wait(), judge.output()))
                    until(lambda: not started_with(mark), "the end of the program")  # noqa: B023  # called at once

    def test_what_a_program_leaves_behind_is_ended(self) -> None:
        """Also what has left its group, and has another parent."""
        mark = {"MARK": self.id()}
        words = (
            f"env MARK={self.id()} sh -c {shlex.quote(f'(setsid sleep 60 &); exec {SERVER} --bind 127.0.0.1 $PORT')}"
        )
        with closing(_command(words)) as command:
            self.assertEqual("", command.why_not())
            until(lambda: {name for _pid, name in started_with(mark)} >= {"sleep"}, "the child")
        # A process that is killed is there for another moment.
        until(lambda: not started_with(mark), "the end of the child")
        self.assertEqual(
            ["Told to end (SIGTERM), it left processes behind, which were killed: sleep."], [*command.notes]
        )


def _command(words: str, seconds: float = 60) -> Command:
    return Command(words, ROOT, seconds=seconds, elsewhere_seconds=0)
