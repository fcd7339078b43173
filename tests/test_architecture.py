"""The pictures of docs/architecture.md say what the code says, and no page names a module that is not there."""

import importlib
import re
import tomllib
import unittest
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

from harness.processes import ROOT

PACKAGE = ROOT / "c42_proxy"
PAGE = (ROOT / "docs" / "architecture.md").read_text()
PICTURES = re.findall(r"```mermaid\n(.*?)```", PAGE, re.DOTALL)
WAYS = [picture for picture in PICTURES if picture.startswith("sequenceDiagram")]
CALL = r"[A-Za-z_][\w.]*(?=\(\))"


def contracts() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"][
        "contracts"
    ]
    return found


def layers() -> list[set[str]]:
    """The rooms and modules of the import contract, from top to bottom."""
    contract = next(each for each in contracts() if each.get("containers") == ["c42_proxy"])
    return [set(layer.split(" | ")) for layer in contract["layers"]]


def is_there(name: str, module: str) -> bool:
    """Whether a module (`caching/lease.py`) defines a name: `CLOCK_SKEW`, `Events.hit`, `Entry.fetched_at`."""
    found: object = importlib.import_module("c42_proxy." + module.removesuffix(".py").replace("/", "."))
    for part in name.split("."):
        # A field of a pydantic model is no attribute of its class.
        if part not in {*dir(found), *getattr(found, "model_fields", {}), *getattr(found, "__annotations__", {})}:
            return False
        found = getattr(found, part, None)
    return True


def modules_of(place: str) -> list[str]:
    """The modules of a room (`caching/`), or the module itself."""
    return [
        str(path.relative_to(PACKAGE))
        for path in sorted(PACKAGE.glob(f"{place}*.py" if place.endswith("/") else place))
    ]


def is_somewhere(name: str, modules: list[str]) -> bool:
    return any(is_there(name, module) for module in modules)


class Rooms(unittest.TestCase):
    picture = next(picture for picture in PICTURES if picture.startswith("flowchart"))
    nodes: ClassVar = {
        node: set(re.findall(r"(\w+)(?:/|\.py)(?=[:,\"])", label + '"'))
        for node, label in re.findall(r'(\w+)\["([^"]*)"\]', picture)
    }

    def test_each_folder_is_a_room(self) -> None:
        """Each folder and each module of the package is in the picture, and nothing else is."""
        folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
        modules = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}
        self.assertEqual(folders | modules, set().union(*self.nodes.values()))
        self.assertEqual(folders, set(re.findall(r"(\w+)/:", self.picture)))

    def test_each_room_has_an_order(self) -> None:
        """For each room of more than one module, a contract says which of them may import which."""
        rooms = {path.parent.name for path in PACKAGE.glob("*/[a-z]*.py")}
        ordered = {room for each in contracts() for room in [*each.get("containers", []), *each.get("modules", [])]}
        self.assertEqual(set(), {f"c42_proxy.{room}" for room in rooms} - {room.removesuffix(".*") for room in ordered})

    def test_arrows_are_the_import_contract(self) -> None:
        """The arrows lead from each layer to the next one, and by the way of the sandbox, which is beside them."""
        ends = re.findall(r'^ *(\w+)(?:\["[^"]*"\])? --> (\w+)', self.picture, re.MULTILINE)
        arrows = {(upper, lower) for a, b in ends for upper in self.nodes[a] for lower in self.nodes[b]}
        contract = {(a, b) for upper, lower in pairwise(layers()) for a in upper for b in lower}
        self.assertEqual(contract | {("commands", "sandbox"), ("sandbox", "address")}, arrows)


class Ways(unittest.TestCase):
    def test_each_step_names_a_function(self) -> None:
        """Each arrow that begins something names functions that are in the module or room to which it leads.

        Where it leads out of the proxy, they are in the one from which it comes.
        """
        self.assertEqual(4, len(WAYS))
        for way in WAYS:
            modules = dict(re.findall(r"participant (\w+) as ([\w/]+(?:\.py|/))", way))
            for source, target, step in re.findall(r"^ *(\w+)->>(\w+): (.*)$", way, re.MULTILINE):
                names = re.findall(CALL, step)
                places = modules_of(modules.get(target) or modules[source])
                with self.subTest(step=step):
                    self.assertTrue(names, "no function")
                    self.assertEqual([], [name for name in names if not is_somewhere(name, places)], places)


class Names(unittest.TestCase):
    def test_names_in_the_text(self) -> None:
        """Each name of a class or function in the text is in some module of the package."""
        modules = [str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py") if path.stem != "__main__"]
        text = re.sub(r"```.*?```", "", PAGE, flags=re.DOTALL)
        names = set(re.findall(r"`(_?[A-Z]\w+(?:\.\w+)?|_?[a-z]+(?:_[a-z]+)+|_[a-z]+)`", text)) - {"c42_proxy", "Date"}
        self.assertGreater(len(names), 20)
        missing = sorted(name for name in names if not is_somewhere(name, modules))
        self.assertEqual([], missing)

    def test_paths_in_the_documentation(self) -> None:
        """Each module, folder and script that a page names is there, below the root or below the package."""
        for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
            named = set(
                re.findall(r"`((?:\w+/)*\w+\.py|(?:c42_proxy|features|tests|tools|harness)/[\w/]*)`", page.read_text())
            )
            for path in sorted(named):
                with self.subTest(page=page.name, path=path):
                    places = (ROOT / path, PACKAGE / path, *PACKAGE.glob(f"*/{path}"))
                    self.assertTrue(any(Path(place).exists() for place in places))


if __name__ == "__main__":
    unittest.main()
