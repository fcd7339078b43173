"""The tree of errors is drawn whole, and each of its leaves is raised somewhere."""

import inspect
import unittest
from collections.abc import Iterator
from pathlib import Path

import c42_proxy
from c42_proxy import errors
from c42_proxy.errors import C42ProxyError

PACKAGE = Path(c42_proxy.__file__).parent


def drawn() -> list[tuple[int, str, str]]:
    """(depth, name, status or its first digit) of each class in the docstring, as it stands there."""
    tree = (errors.__doc__ or "").partition("\n\n")[2]
    rows = []
    for line in tree.splitlines():
        branch, _, rest = line.rpartition("── ")
        depth = 0 if not branch else 1 + len(branch[:-1]) // 4
        name, *told = rest.split()
        rows.append((depth, name, told[0].rstrip("x") if told and told[0][0].isdigit() else ""))
    return rows


def classes(root: type[Exception] = C42ProxyError, depth: int = 0) -> Iterator[tuple[int, type[Exception]]]:
    yield depth, root
    for child in root.__subclasses__():
        yield from classes(child, depth + 1)


class TreeTest(unittest.TestCase):
    def test_text(self) -> None:
        """The text of an exception is what a client is told, and not what it was made of."""
        for problem in (errors.Overloaded(), errors.RateLimited(30, 429), errors.UpstreamTimeout()):
            self.assertEqual(problem.detail, str(problem))

    def test_drawn(self) -> None:
        """The picture in `errors.py` has each class of the tree, under its parent and with its status."""
        tree = [(depth, kind.__name__) for depth, kind in classes() if kind.__module__ == errors.__name__]
        self.assertEqual(tree, [(depth, name) for depth, name, _status in drawn()])
        for _depth, name, status in drawn():
            kind = getattr(errors, name)
            if status:
                self.assertTrue(str(kind.status).startswith(status), name)

    def test_no_other(self) -> None:
        """No error of the tree is defined elsewhere: whoever reads `errors.py` knows them all."""
        elsewhere = [kind for _depth, kind in classes() if not kind.__module__.startswith((errors.__name__, "tests"))]
        self.assertEqual([], elsewhere)

    def test_precedence(self) -> None:
        """Of several failures a wish to wait counts most, then a call not made, the token, the time, the rest."""
        one_of_each = (
            errors.RateLimited,
            errors.NotAsked,
            errors.TokenRefused,
            errors.UpstreamTimeout,
            errors.UpstreamUnavailable,
        )
        order = [kind.precedence for kind in one_of_each]
        self.assertEqual(sorted(set(order)), order)
        self.assertEqual(errors.UpstreamUnavailable.precedence, errors.InvalidAnswer.precedence)

    def test_retry_after(self) -> None:
        """`Retry-After` is in whole seconds, rounded up, and at least one."""
        for error, seconds in (
            (errors.RateLimited(0, 429), 1),
            (errors.RateLimited(1.001, 429), 2),
            (errors.BackingOff(0), 1),
            (errors.CircuitOpen(4.2), 5),
            (errors.Overloaded(), 1),
        ):
            self.assertEqual(seconds, error.retry_after)
            self.assertIn(f"Try again in {seconds} s.", error.detail)

    def test_settings(self) -> None:
        """Wrong settings end a command line with status 2, and a line for each."""
        error = errors.SettingsError(["one: wrong", "two: wrong"])
        self.assertEqual(2, error.exit_code)
        self.assertEqual(["  one: wrong", "  two: wrong"], error.format_message().splitlines()[1:])

    def test_raised(self) -> None:
        """Each leaf of the tree is made somewhere in the package."""
        source = "".join(path.read_text() for path in PACKAGE.rglob("*.py") if path.name != "errors.py")
        for _depth, kind in classes():
            if not kind.__subclasses__() and not inspect.isabstract(kind):
                with self.subTest(kind.__name__):
                    self.assertRegex(source, rf"(raise {kind.__name__}\b|\b{kind.__name__}\()")
