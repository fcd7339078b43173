"""HTML as a tree of elements, for tests that look into a page."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"br", "hr", "img", "input", "link", "meta"}


@dataclass
class Element:
    tag: str
    attributes: dict[str, str]
    children: "list[Element | str]" = field(default_factory=list)

    @property
    def text(self) -> str:
        """All text inside, with each run of white space as one space."""
        return " ".join("".join(self._texts()).split())

    def find(self, tag: str, **attributes: str) -> "Element":
        """The first of these elements inside. AssertionError where there is none."""
        found = next(self._matching(tag, attributes), None)
        if found is None:
            raise AssertionError(f"no {tag} with {attributes} in <{self.tag} {self.attributes}>: {self.text[:200]}")
        return found

    def all(self, tag: str, **attributes: str) -> "list[Element]":
        """All of these elements inside, in their order. `class_` stands for `class`, `data_x` for `data-x`."""
        return list(self._matching(tag, attributes))

    def _matching(self, tag: str, attributes: dict[str, str]) -> "Iterator[Element]":
        wanted = {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()}
        for child in self.children:
            if isinstance(child, Element):
                if child.tag == tag and wanted.items() <= child.attributes.items():
                    yield child
                yield from child._matching(tag, attributes)

    def _texts(self) -> Iterator[str]:
        for child in self.children:
            if isinstance(child, str):
                yield child
            else:
                yield from child._texts()


def parsed(html: str) -> Element:
    """The tree of `html`. ValueError where an element is closed that is not the open one, or is left open."""
    parser = _Parser()
    parser.feed(html)
    parser.close()
    if len(parser.open) > 1:
        raise ValueError(f"<{parser.open[-1].tag}> is not closed")
    return parser.open[0]


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open = [Element("", {})]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.open[-1].children.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag != self.open[-1].tag:
            raise ValueError(f"</{tag}> where <{self.open[-1].tag}> is open, at {self.getpos()}")
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)
