"""`scripts/judge` in a clone in which nobody has set up what it needs."""

import shutil
import sys
import tempfile
import unittest
from pathlib import Path

from harness.processes import ROOT, clean_environ, run


class ScriptTest(unittest.TestCase):
    def test_without_the_developers_environment(self) -> None:
        """A sentence and exit status 2: in a fresh clone, and after `make run`, which does not install behave."""
        clone = Path(self.enterContext(tempfile.TemporaryDirectory()))
        script = clone / "scripts" / "judge"
        script.parent.mkdir()
        shutil.copy(ROOT / "scripts" / "judge", script)
        self.assert_says_what_it_needs(script, clone)
        python = clone / ".venv" / "bin" / "python"
        python.parent.mkdir(parents=True)
        # -S: without the packages that are installed.
        python.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')
        python.chmod(0o755)
        self.assert_says_what_it_needs(script, clone)

    def assert_says_what_it_needs(self, script: Path, clone: Path) -> None:
        done = run(str(script), "--help", environ=clean_environ(), cwd=clone)
        wanted = f"scripts/judge needs the developers' environment: make -C {clone} .venv/installed-dev\n"
        self.assertEqual((2, "", wanted), (done.returncode, done.stdout, done.stderr))


if __name__ == "__main__":
    unittest.main()
