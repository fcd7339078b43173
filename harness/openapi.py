"""`openapi.yaml`, as tests read it."""

import re
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import yaml

from harness.processes import ROOT

FILE = ROOT / "openapi.yaml"
DOCUMENT: dict[str, Any] = yaml.safe_load(FILE.read_text())

RESPONSES: dict[int, dict[str, Any]] = {
    int(status): DOCUMENT["components"]["responses"][response["$ref"].rpartition("/")[2]]
    for address in DOCUMENT["paths"].values()
    for status, response in address["get"]["responses"].items()
}
"""All that are described, by status: each has one meaning only."""

REASONS: dict[str, set[int]] = {
    reason: set(map(int, statuses.split(", ")))
    for reason, statuses in re.findall(
        r"^- `([a-z0-9-]+)` \(([0-9, ]+)\): [A-Za-z]",
        DOCUMENT["components"]["schemas"]["Problem"]["properties"]["reason"]["description"],
        re.MULTILINE,
    )
}
"""Each reason of a problem that is explained, and the statuses with which it comes."""


def validator(schema: dict[str, Any]) -> jsonschema_rs.Draft202012Validator:
    """For a schema of the document, with what it refers to."""
    return jsonschema_rs.Draft202012Validator({**schema, "components": DOCUMENT["components"]})


def schemas(part: object = DOCUMENT) -> Iterator[dict[str, Any]]:
    """Every schema, but for those within another one."""
    if isinstance(part, dict):
        for key, value in part.items():
            if key == "schema":
                yield value
            elif key == "schemas":
                yield from value.values()
            else:
                yield from schemas(value)


def examples() -> Iterator[tuple[dict[str, Any], Any]]:
    """Every example, with its schema."""
    for each in parts():
        if "example" in each:
            yield each["schema"], each["example"]
        for example in each.get("examples", {}).values():
            yield each["schema"], example["value"]


def parts(part: object = DOCUMENT) -> Iterator[dict[str, Any]]:
    """Every object of the document."""
    if isinstance(part, dict):
        yield part
    if isinstance(part, dict | list):
        for each in part.values() if isinstance(part, dict) else part:
            yield from parts(each)
