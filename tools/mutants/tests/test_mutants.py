"""Unit tests of which mutants `make mutants` makes, and of what it says in the end."""

import tempfile
import unittest
from pathlib import Path

from harness.processes import ROOT
from tools.mutants.mutations import mutations
from tools.mutants.plan import CORE
from tools.mutants.survivors import complaints, listed, score, unwritten

MODULE = "c42_proxy/caching/cache.py"
KILLED = (MODULE, "Cache.hit: now < expiry -> now <= expiry")
SURVIVES = (MODULE, ": POLL_SECONDS = 0.02 -> POLL_SECONDS = 1.02")
FATES = {KILLED: True, SURVIVES: False}


CODE = """\
import time

MOST = 2


class Limit:
    def __init__(self, most: int = 2) -> None:
        self.most = min(most, MOST)

    def admits(self, number: int) -> bool:
        if number < 0 or number >= self.most:
            raise ValueError
        while time.monotonic() > 0:
            return True
        return True
"""


class MutationsTest(unittest.TestCase):
    """Which mutants there are."""

    def texts(self, code: str) -> list[str]:
        return [mutation.text for mutation in mutations(code)]

    def test_meaningful(self) -> None:
        """Operators of cosmic-ray and our own are used, in the order of the lines."""
        texts = self.texts(CODE)
        self.assertEqual(
            texts[2],
            "Limit.__init__: def __init__(self, most: int = 2) -> None: -> def __init__(self, most: int = 3) -> None:",
        )
        self.assertIn("Limit.admits: raise ValueError -> pass", texts)
        self.assertIn(
            "Limit.admits: if number < 0 or number >= self.most: -> if number < 0 or number > self.most:", texts
        )

    def test_meaningless(self) -> None:
        """The boundary of the running clock is not moved, and an attribute is not left out of `__init__`."""
        self.assertEqual(
            [text for text in self.texts(CODE) if "monotonic() >= 0" in text or "self.most = most" in text], []
        )

    def test_alike(self) -> None:
        """Two mutants of a function that look the same are distinguished."""
        self.assertEqual(
            [text for text in self.texts(CODE) if "return True -> " in text],
            ["Limit.admits: return True -> return False", "Limit.admits: return True -> return False (2)"],
        )

    def test_lines(self) -> None:
        """Each says which lines are those of the changed statement, or where a changed constant is used."""
        self.assertEqual(
            {mutation.text.partition(":")[0]: mutation.lines for mutation in mutations(CODE)},
            {"": frozenset({8}), "Limit.__init__": frozenset(), "Limit.admits": frozenset({15})},
        )

    def test_code(self) -> None:
        """Each is a module of its own, and none is the module as it is."""
        codes = [mutation.code for mutation in mutations(CODE)]
        self.assertEqual((len({*codes, CODE}), codes.count(CODE)), (len(codes) + 1, 0))

    def test_core(self) -> None:
        """Each module of the plan and each module of tests in it is there."""
        asked = {question for core in CORE for question in core.questions if "." in question}
        paths = [*(core.path for core in CORE), *(Path(*name.split(".")).with_suffix(".py") for name in asked)]
        self.assertEqual([path for path in paths if not (ROOT / path).is_file()], [])


class Complaints(unittest.TestCase):
    """Which mutants are held against the list."""

    def test_all_explained(self) -> None:
        """A survivor that is explained is no complaint, nor is a mutant that was killed."""
        self.assertEqual(complaints(FATES, {SURVIVES: "only a pause"}), [])

    def test_unexplained(self) -> None:
        """A survivor that is not explained is named."""
        self.assertEqual(complaints(FATES, {}), [f"survives, and is not explained: {MODULE} {SURVIVES[1]}"])

    def test_explained_in_another_module(self) -> None:
        """An explanation is for one module: the same line elsewhere needs its own."""
        self.assertEqual(len(complaints(FATES, {("c42_proxy/events.py", SURVIVES[1]): "only a pause"})), 1)

    def test_killed_by_now(self) -> None:
        """What is explained as a survivor and was killed is named: the list has grown old."""
        explained = dict.fromkeys(FATES, "only a pause")
        self.assertEqual(complaints(FATES, explained), [f"is explained, but does not survive: {MODULE} {KILLED[1]}"])

    def test_gone(self) -> None:
        """What is explained as a survivor and is no mutant of the module any more is named."""
        explained = {SURVIVES: "only a pause", (MODULE, "Cache.gone: a -> b"): "only a pause"}
        self.assertEqual(
            complaints(FATES, explained), [f"is explained, but does not survive: {MODULE} Cache.gone: a -> b"]
        )

    def test_score(self) -> None:
        """The score is the part that was killed, explained or not."""
        self.assertEqual(score({**FATES, (MODULE, "f: a -> b"): True}), 2 / 3)


class Listed(unittest.TestCase):
    """The list itself."""

    def written(self, text: str) -> Path:
        folder = self.enterContext(tempfile.TemporaryDirectory())
        path = Path(folder) / "survivors.toml"
        path.write_text(text)
        return path

    def test_groups(self) -> None:
        """One explanation may hold for several mutants of a module."""
        path = self.written(
            '[[survivors]]\nmodule = "a.py"\nwhy = "only a pause"\nmutants = ["f: 1 -> 2", "f: 1 -> 0"]'
        )
        self.assertEqual(listed(path), {("a.py", "f: 1 -> 2"): "only a pause", ("a.py", "f: 1 -> 0"): "only a pause"})

    def test_engineers(self) -> None:
        """What the features let live is named, unless it is equivalent or a matter of engineers."""
        path = self.written(
            '[[engineers]]\nmodule = "a.py"\nwhy = "a pause"\nstarts = ["f:"]\n'
            '[[survivors]]\nmodule = "a.py"\nwhy = "equivalent"\nmutants = ["g: 1 -> 2"]'
        )
        fates = {("a.py", text): False for text in ("f: 1 -> 2", "g: 1 -> 2", "h: 1 -> 2")}
        fates |= {("b.py", "f: 1 -> 2"): False, ("a.py", "h: 3 -> 4"): True}
        named = [line.rpartition(" says why: ")[2] for line in unwritten(fates, path)]
        self.assertEqual(named, ["a.py h: 1 -> 2", "b.py f: 1 -> 2"])

    def test_without_why(self) -> None:
        """A survivor without an explanation is refused."""
        with self.assertRaises(ValueError):
            listed(self.written('[[survivors]]\nmodule = "a.py"\nwhy = " "\nmutants = ["f: 1 -> 2"]'))

    def test_twice(self) -> None:
        """A survivor that is there twice is refused."""
        with self.assertRaises(ValueError):
            listed(self.written('[[survivors]]\nmodule = "a.py"\nwhy = "so"\nmutants = ["f: 1 -> 2", "f: 1 -> 2"]'))

    def test_ours(self) -> None:
        """The list of the project can be read, and each of its modules is there."""
        self.assertEqual([module for module, _ in listed() if not (ROOT / module).is_file()], [])
