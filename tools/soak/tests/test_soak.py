"""`python -m tools.soak` itself, for some seconds: that it records a whole run, and finds nothing in it."""

import tempfile
import unittest
from pathlib import Path

from harness.needs import needs
from tools.soak.checker import check
from tools.soak.faults import planned
from tools.soak.history import History
from tools.soak.report import shown, table
from tools.soak.run import run

SEED = 4501
SECONDS = 8


@needs("nginx")
@needs("redis-server")
class SoakTest(unittest.TestCase):
    def test_short_run(self) -> None:
        """In a short run with a few faults all kinds of answers are recorded, and no promise is broken."""
        with tempfile.TemporaryDirectory() as folder:
            logs = Path(folder)
            history = History(run(SEED, SECONDS, logs))
            violations = check(history)
            self.assertEqual(violations, [], "\n".join([table(history, violations), *shown(history, violations)]))
            self.assertEqual(
                {log.name for log in logs.iterdir()}, {"nginx.log", "host-1.log", "host-2.log", "redis.log"}
            )
        self.assertEqual(
            {(fault.kind, fault.at) for fault in history.faults},
            {(fault.kind, fault.on) for row in planned(SEED, SECONDS) for fault in row},
        )
        told = {(answer.kind, answer.request.status) for answer in history.answers}
        for kind in ("hit of nginx", "hit", "miss", "collapsed", "stale"):
            self.assertIn((kind, 200), told)
        self.assertLessEqual({("miss", 404), ("hit of nginx", 304)}, told)
        self.assertIn("problem", {kind for kind, _ in told})
        self.assertLessEqual({"answered", "gone", "down"}, {fetch.result for fetch in history.fetches})
        self.assertLessEqual({"nginx", "host-1", "host-2"}, {request.at for request in history.requests})
        self.assertGreater(len(history.requests), 500)
