"""`openapi.yaml`, as tests read it."""

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


def examples(part: object = DOCUMENT) -> Iterator[tuple[dict[str, Any], Any]]:
    """Every example, with its schema."""
    if isinstance(part, dict):
        if "example" in part:
            yield part["schema"], part["example"]
        for example in part.get("examples", {}).values():
            yield part["schema"], example["value"]
        for value in part.values():
            yield from examples(value)


def references(part: object = DOCUMENT) -> Iterator[str]:
    """Everything that refers to a component."""
    if isinstance(part, dict):
        for key, value in part.items():
            yield from [value] if key == "$ref" else references(value)
    elif isinstance(part, list):
        for each in part:
            yield from references(each)
