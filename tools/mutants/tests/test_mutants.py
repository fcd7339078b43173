"""Unit tests of what `make mutants` says in the end."""

import tempfile
import unittest
from pathlib import Path

from harness.processes import ROOT
from tools.mutants.survivors import Mutant, complaints, listed, score

MODULE = "c42_proxy/caching/cache.py"
KILLED = Mutant(MODULE, "Cache.hit", "now < expiry -> now <= expiry")
SURVIVES = Mutant(MODULE, "", "POLL_SECONDS = 0.02 -> POLL_SECONDS = 1.02")
FATES = {KILLED: True, SURVIVES: False}


class Complaints(unittest.TestCase):
    """Which mutants are held against the list."""

    def test_all_explained(self) -> None:
        """A survivor that is explained is no complaint, nor is a mutant that was killed."""
        self.assertEqual(complaints(FATES, {(MODULE, str(SURVIVES)): "only a pause"}), [])

    def test_unexplained(self) -> None:
        """A survivor that is not explained is named."""
        self.assertEqual(complaints(FATES, {}), [f"survives, and is not explained: {MODULE} {SURVIVES}"])

    def test_explained_in_another_module(self) -> None:
        """An explanation is for one module: the same line elsewhere needs its own."""
        self.assertEqual(len(complaints(FATES, {("c42_proxy/events.py", str(SURVIVES)): "only a pause"})), 1)

    def test_killed_by_now(self) -> None:
        """What is explained as a survivor and was killed is named: the list has grown old."""
        explained = {(MODULE, str(mutant)): "only a pause" for mutant in FATES}
        self.assertEqual(complaints(FATES, explained), [f"is explained, but does not survive: {MODULE} {KILLED}"])

    def test_gone(self) -> None:
        """What is explained as a survivor and is no mutant of the module any more is named."""
        explained = {(MODULE, str(SURVIVES)): "only a pause", (MODULE, "Cache.gone: a -> b"): "only a pause"}
        self.assertEqual(
            complaints(FATES, explained), [f"is explained, but does not survive: {MODULE} Cache.gone: a -> b"]
        )

    def test_alike(self) -> None:
        """Of two mutants that look the same in one function, each needs its own explanation."""
        second = Mutant(SURVIVES.module, SURVIVES.function, SURVIVES.change, 2)
        self.assertEqual(
            complaints({**FATES, second: False}, {(MODULE, str(SURVIVES)): "only a pause"}),
            [f"survives, and is not explained: {MODULE} {second}"],
        )

    def test_score(self) -> None:
        """The score is the part that was killed, explained or not."""
        self.assertEqual(score({**FATES, Mutant(MODULE, "f", "a -> b"): True}), 2 / 3)


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
