"""The checker of `make soak`, on records written by hand: what is well is not reported, and each promise that is broken
is, by the one rule that it breaks."""

import json
import tempfile
import unittest
from collections.abc import Iterator
from pathlib import Path

from tools.soak.checker import FOR_ALL, FOR_ANSWERS, violations_of
from tools.soak.history import History
from tools.soak.logs import said_by
from tools.soak.record import StoreState, Traceback, read, write
from tools.soak.tests.tape import OWN, START, Tape, with_body

HISTORIES = Path(__file__).with_name("histories.txt")
HOST = "host-1"


def histories() -> Iterator[tuple[str, str, str, list[str]]]:
    """The rule, its sentence, what is expected, and the story, of each line of `histories.txt`."""
    rule = sentence = ""
    given: list[str] = []
    for line in HISTORIES.read_text().replace("\n  |", " |").splitlines():
        start, _, rest = line.partition(" ")
        if start == "=":
            rule = rest
        elif start == "#":
            sentence, given = rest, []
        elif start == "+":
            given = [*given, rest] if rest else []
        elif line and rule:
            expected, _, story = line.partition(":")
            yield rule, sentence, expected, [*given, story]


class HistoriesTest(unittest.TestCase):
    def test_each_line(self) -> None:
        """Each history violates what its line says, and nothing else."""
        for rule, sentence, expected, story in histories():
            with self.subTest(sentence, rule=rule, story=story[-1]):
                tape = Tape(*story)
                if rule == "fetches":
                    self.assertEqual([fetch.result for fetch in History(tape.records).fetches], [expected])
                    continue
                found = [(one.rule, one.request) for one in violations_of(tape.records)]
                if expected.startswith("~"):
                    self.assertIn((rule, expected[1:]), found)
                else:
                    self.assertEqual(found, [(rule, one) for one in expected.split() if one != "well"])

    def test_each_rule(self) -> None:
        """For every rule, there is a line in which it is violated."""
        violated = {rule for rule, _, expected, _ in histories() if expected != "well"}
        self.assertEqual(violated, {rule.__name__ for rule in (*FOR_ANSWERS, *FOR_ALL)} | {"fetches"})

    def test_answers_that_c42_did_not_give(self) -> None:
        """Each subscriber is there, once, in C42's order; title and names are of one fetch, and of this event."""
        tape = Tape(
            "fetch r1 0 event=club size=250", "'worker killed' 0.035 0.04 host-1", "fetch r2 1 event=club size=250"
        )
        whole = json.loads(tape.entries["r1"].body)
        names, other = whole["names"], json.loads(tape.entries["r2"].body)["names"]
        first, second, *rest = names
        forged = [{"names": names[:left]} for left in (249, 200, 0)]
        forged += [{"names": some} for some in ([*names[1:], first], [first, *names[:-1]], [second, first, *rest])]
        forged += [{"names": ["Ann", second, *rest]}, {"names": other}, {"names": [*names[:100], *other[100:]]}]
        forged += [{"title": text} for text in ("club v2 c1", "club v1 c99", "club v1 c2", "tea v1 c1", "club")]
        forged += [{"more": 1}, {"id": "tea"}]
        records = list(tape.records)
        for changes in forged:
            with self.subTest(changes=f"{changes}"[:60]):
                tape.records = list(records)
                said = {**whole, **changes}
                entry = with_body(tape.entries["r1"], said.pop("id"), said.pop("title"), said.pop("names"), **said)
                tape.get("r3", 1.1, entry, OWN["hit"])
                found = {(one.rule, one.request) for one in violations_of(tape.records)}
                self.assertIn(("an_answer_is_whole", "r3"), found)
        for body in ("[]", "club"):
            tape.records = list(records)
            tape.get("r3", 1.1, "r1", OWN["hit"])
            tape.change("r3", body=body)
            self.assertIn("an_answer_is_whole", {one.rule for one in violations_of(tape.records)})

    def test_all_that_may_be(self) -> None:
        """Hits, misses, refreshes, 404s, pages, stale copies, back-offs and an open breaker violate nothing."""
        tape = Tape(
            "fetch r1 0 | collapsed r2 0.01 r1 took=0.04 | hit r3 1 r1 | hit r4 2.9 r1 at=host-1",
            "hit_of_nginx r5 1.9 r1 | version 2 2.5 | fetch r6 3.02 version=2 | not_modified r7 4 r6",
            "fetch r8 4 event=club size=250 | fetch r9 4 gone event=nobody | hit_of_nginx r10 5 r9",
            "fetch r11 6.04 failed | stale r12 6.2 r6 | stale r13 6.5 r6 own='hit; ttl=-1'",
            "fetch r14 7.1 'told to wait' wait=2 | problem r15 8 own='detail=told-to-wait' event=cake",
            "stale r16 8 r6 own='hit; ttl=-2' | fetch r17 9.2 'token refused'",
            "problem r18 9.5 own='fwd-status=401; detail=recent-failure' status=502",
            "down ab 10 | stale r19 12 r6 own='hit; ttl=-6' | problem r20 14 own='detail=c42-down' event=cake",
            "fetch r21 15.2 failed event=d | fetch r22 20.3 version=2",
        )
        self.assertEqual(violations_of(tape.records), [])

    def test_bounds_of_a_fetch(self) -> None:
        """It began between its request (or what its Expires tells) and its first call; where the event is gone it was
        over by that, and in any case when its time was up. A result is known when it was told, else a budget later."""
        story = "fetch r1 0 event=club size=250 asked=0.5 | call 3 ended=0.8"
        for more, ended, noted in (
            ("", 0.8, 0.54),
            ("call 1 outcome=gone | change r1 status=404 body=", 0.52, 0.54),
            ("call 1 outcome=left ended=1.2 | change r1 status=504 body=", 1, 0.54),
            ("change r1 status=None", 0.8, 1.8),
            ("change r1 ended=2+", 0.8, 1.8),
        ):
            with self.subTest(more):
                [fetch] = History(Tape(story, more).records).fetches
                self.assertEqual((fetch.earliest, fetch.latest), (START, START + 0.5))
                self.assertAlmostEqual(fetch.ended, START + ended, 4)
                self.assertAlmostEqual(fetch.noted, START + noted, 4)

    def test_records_of_no_run(self) -> None:
        """Records without the settings of their run prove nothing."""
        with self.assertRaises(ValueError):
            violations_of(Tape().records[1:])

    def test_record_that_was_kept(self) -> None:
        """What is written is read as it was."""
        records = Tape("fetch r1 0 | 'worker killed' 0 1 host-1 | store 0 False | traceback 0").records
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "new", "record.jsonl")
            write(path, records)
            self.assertEqual(list(read(path)), records)

    def test_log(self) -> None:
        """What a host says of the store is read from its log, and each traceback, in whichever form."""
        lines = [
            '{"event": "request", "path": "/the shared store/", "timestamp": "2026-11-24T12:06:14.100000Z"}',
            '{"event": "the shared store fails: each process ...", "timestamp": "2026-11-24T12:06:14.113844Z"}',
            "Traceback (most recent call last):",
            "ValueError: no",
            '{"event": "the shared store works again", "timestamp": "2026-11-24T12:06:15.5Z"}',
            '{"event": "no", "exception": "Traceback (most recent call last):", "timestamp": "2026-11-24T12:06:16.5Z"}',
            '{"event": "mixed wi{"event": "Traceback (most recent call last):',
        ]
        with tempfile.TemporaryDirectory() as folder:
            log = Path(folder, f"{HOST}.log")
            log.write_text("\n".join(lines))
            self.assertEqual(
                list(said_by(log)),
                [
                    StoreState(HOST, 1795521974.113844, works=False),
                    Traceback(HOST, 1795521974.113844, lines[2]),
                    StoreState(HOST, 1795521975.5, works=True),
                    Traceback(HOST, 1795521976.5, lines[5]),
                    Traceback(HOST, 1795521976.5, lines[6]),
                ],
            )
