"""What the proxy has to make of what C42 says, by the contract alone: plain, and with nothing of the proxy in it."""

from collections.abc import Sequence
from typing import Any

from harness.wire import EVENT_ID, PAGE

REMOVED = "removed"


class UnusableError(Exception):
    """C42 has said something that its API does not promise: the proxy answers 502."""


def title_of(said: Any) -> tuple[bool, str | None]:
    """Whether there is such an event, and its title. Raises UnusableError."""
    data = _objects(said)
    _need(all(_is_optional(each.get("title"), str) for each in data))
    if not data:
        return False, None
    _need(len(data) == 1 and data[0]["id"] == EVENT_ID)
    if data[0].get("permission") == REMOVED:
        return False, None
    _need(_is_unicode(data[0].get("title")))
    return True, data[0].get("title")


def subscriptions_of(said: Any) -> list[Any]:
    """The subscriptions on one page. Raises UnusableError."""
    data = _objects(said)
    meta = said.get("meta_data", {})
    _need(isinstance(meta, dict) and _is_optional(meta.get("count"), int) and len(data) <= PAGE)
    for each in data:
        who = each.get("subscriber")
        _need(each.get("event_id") in (None, EVENT_ID))
        _need(_is_optional(who, dict) and _is_optional((who or {}).get("first_name"), str))
        _need(each.get("permission") == REMOVED or (who is not None and _is_unicode(who.get("first_name"))))
    return data


def first_names(subscriptions: Sequence[Any]) -> list[str]:
    """The names to give: each subscription once, nobody who was removed or has no name."""
    known: dict[str, str | None] = {}
    for each in subscriptions:
        was_removed = each.get("permission") == REMOVED
        known.setdefault(each["id"], None if was_removed else each["subscriber"].get("first_name"))
    return [name for name in known.values() if name and name.strip()]


def _objects(said: Any) -> list[Any]:
    """What is in `data`, as far as it is the same for both calls."""
    _need(_is_json(said) and isinstance(said, dict) and isinstance(said.get("data"), list))
    for each in said["data"]:
        _need(isinstance(each, dict) and isinstance(each.get("id"), str) and _is_optional(each.get("permission"), str))
    data: list[Any] = said["data"]
    return data


def _need(condition: object) -> None:
    if not condition:
        raise UnusableError


def _is_json(value: object) -> bool:
    """NaN and infinity are none."""
    if isinstance(value, dict | list):
        return all(map(_is_json, value.values() if isinstance(value, dict) else value))
    return not isinstance(value, float) or value - value == 0


def _is_optional(value: object, kind: type) -> bool:
    # Not isinstance: true is no number.
    return value is None or type(value) is kind


def _is_unicode(text: str | None) -> bool:
    return text is None or not any("\ud800" <= character <= "\udfff" for character in text)
