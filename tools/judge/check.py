"""`make judged`: judges the proxy, the textbook solutions, and small proxies with a fault each.

Each has to break the rules that it is known to break, and no other.
"""

import re
import shlex
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from harness.processes import ROOT

from .small import FAULTS

SECONDS = 900
OF_EXERCISE = 8
"""So many rules are those of the exercise."""
UNTOLD = 8
"""So many of all rules cannot be judged of a program as it is: a bug, too much to do, and the six about the log and the
network, which the features read and make in their own process."""
PYTHON = shlex.quote(sys.executable)
PAGES = "All subscribers are named, however many there are"
LEFT_OUT = "Whoever is not subscribed any more, or has no first name, is left out"
REUSED = "An answer is reused for 4 minutes 12 s, counted from the moment C42 was asked"
FAILURE = "A failure is no answer: it is not reused for 4 minutes 12 s"


@dataclass(frozen=True)
class Program:
    name: str
    command: str
    """For a shell, which passes on its environment."""
    broken: frozenset[str] = frozenset()
    """The rules that it breaks."""
    options: tuple[str, ...] = ("--exercise",)


def _small(fault: str, *broken: str) -> Program:
    return Program(fault or "small", f"{PYTHON} -m tools.judge.small {fault}", frozenset(broken))


OURS = "C42_BIND=127.0.0.1:$PORT C42_OPS_BIND= C42_CACHE_URL=${C42_CACHE_URL:-memory://}"
GUNICORN = f"{PYTHON} -m gunicorn --bind 127.0.0.1:$PORT --timeout 0 --threads 8 --log-level warning"
UVICORN = f"{PYTHON} -m uvicorn --host 127.0.0.1 --port $PORT --log-level warning"
PROGRAMS = (
    Program("c42-proxy", f"{OURS} {PYTHON} -m c42_proxy serve", options=()),
    Program("textbook", f"{GUNICORN} tools.judge.peers.textbook:app", frozenset({LEFT_OUT, REUSED})),
    Program(
        "FastAPI",
        f"{UVICORN} tools.judge.peers.fastapi_httpx:app",
        frozenset({LEFT_OUT, REUSED}),
        ("--exercise", "--monotonic"),
    ),
    _small(""),
    *map(_small, FAULTS, (PAGES, REUSED, FAILURE, LEFT_OUT, REUSED)),
)


def judged(program: Program) -> tuple[str, str]:
    """What is wrong with the judgement of a program, nothing if it is right; and all that was said."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        command = [f"{ROOT}/scripts/judge", *program.options, "--page", f"{folder}/page.html"]
        # In the way of `env`: a variable before the program is no word of a shell's exec.
        words = [*command, "--", "sh", "-c", f"exec env {program.command}"]
        run = subprocess.run(  # noqa: S603  # the programs of this module alone
            words, cwd=ROOT, check=False, capture_output=True, text=True, timeout=SECONDS
        )
    said = f"{run.stdout}{run.stderr}It took {time.monotonic() - began:.0f} s."
    return wrong(program, run.returncode, said), said


def wrong(program: Program, status: int, said: str) -> str:
    """What is wrong with a judgement that ended with `status`. Each rule has to have a line, and to count."""
    broken = frozenset(re.findall(r"^broken  (?:exercise)? +(.+)$", said, re.MULTILINE))
    held = OF_EXERCISE - len(program.broken)
    if broken != program.broken:
        return f"these rules are to be broken, and no other: {sorted(program.broken)}"
    if len(re.findall(r"^held    exercise  ", said, re.MULTILINE)) != held:
        return f"{held} rules of the exercise are to be held"
    if f"\nThe exercise: {held} of {OF_EXERCISE} rules held.\n" not in said:
        return f"the score of the exercise is to be {held} of {OF_EXERCISE}"
    all_told = rf"^All: (\d\d+) of \1 rules held, and {UNTOLD} cannot be told\.$"
    if "--exercise" not in program.options and not re.search(all_told, said, re.MULTILINE):
        return f"all rules are to be held but {UNTOLD}"
    return "" if status == bool(broken) else f"the exit status is {status}"


def stack() -> subprocess.CompletedProcess[str]:
    """The features against nginx, two hosts and Redis."""
    words = [sys.executable, "-m", "behave", "--format", "failures", "-D", "driver=stack"]
    return subprocess.run(words, cwd=ROOT, check=False, capture_output=True, text=True, timeout=SECONDS)  # noqa: S603  # ours


def main() -> None:
    wrong = 0
    with ThreadPoolExecutor(2) as pool:
        stacked = pool.submit(stack)
        for program, (why, said) in zip(PROGRAMS, pool.map(judged, PROGRAMS), strict=True):
            if not why:
                scores = re.findall(r"^(?:The exercise|All|It took)\b.+$", said, re.MULTILINE)
                print(f"{program.name}: {' '.join(scores)}", flush=True)
            else:
                wrong += 1
                print(f"{program.name}: {why}.\n{said}")
        of_stack = stacked.result()
    print(f"The stack:\n{of_stack.stdout}{of_stack.stderr if of_stack.returncode else ''}")
    sys.exit(bool(wrong or of_stack.returncode))


if __name__ == "__main__":
    main()
