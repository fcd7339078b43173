"""The JSON of the C42 API v2: an event, a subscription, a page of them, and an error.

Every stand-in for C42 in this repository makes its answers here.
"""

import json
import uuid
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import NamedTuple

_CREATED = "2016-09-30T12:09:47.671346Z"


class Person(NamedTuple):
    """A subscriber. C42 has people without a name: it is then null or empty."""

    first_name: str | None
    last_name: str | None = None


def event(event_id: str, title: str | None) -> Mapping[str, object]:
    return {
        "id": event_id,
        "title": title,
        "description": "",
        "event_type": "normal",
        "permission": "subscribed_write",
        "previous_permission": None,
        "rsvp_status": None,
        "is_invitation": False,
        "start": "2016-10-21T15:00:00Z",
        "start_timezone": "Europe/Amsterdam",
        "start_location": None,
        "end": "2016-10-21T16:00:00Z",
        "end_timezone": "Europe/Amsterdam",
        "end_location": None,
        "all_day": False,
        "due": None,
        "rrule": None,
        "recurrence_parent": None,
        "color": "#42c042",
        "tags": [],
        "calendar_ids": [],
        "creator": _user(_id_of(event_id, "creator"), Person("Michel", "de Vries")),
        "created": _CREATED,
        "last_modified": _CREATED,
    }


def subscription(event_id: str, number: int, person: Person | None) -> Mapping[str, object]:
    user_id = _id_of(event_id, f"subscriber {number}")
    subscription_id = f"{event_id}__{user_id}"
    if person is None:
        return removed(subscription_id)
    return {
        "id": subscription_id,
        "event_id": event_id,
        "permission": "subscribed_write",
        "rsvp_status": None,
        "is_invitation": False,
        "created": _CREATED,
        "subscriber": _user(user_id, person),
        # Who invited them: a second person in the same object, whose name must not be mixed up.
        "actor": _user(_id_of(event_id, "creator"), Person("Michel", "de Vries")),
    }


def removed(identifier: str) -> Mapping[str, object]:
    """All that C42 still has about a removed event or subscription."""
    return {"id": identifier, "permission": "removed"}


def page(data: Sequence[object], **meta_data: object) -> Mapping[str, object]:
    """An answer to either call: a list, and data about it, such as the `count` over all pages."""
    return {"data": data, "meta_data": meta_data}


def error(status: int, message: str) -> Mapping[str, object]:
    code = HTTPStatus(status).name.lower() if status in HTTPStatus.__members__.values() else "unknown"
    return {"error": {"status_code": status, "message": message, "code": code}}


def encoded(answer: object) -> bytes:
    """An answer as it is sent: the keys in C42's order, without `\\u` escapes."""
    return json.dumps(answer, ensure_ascii=False).encode()


def _user(user_id: str, person: Person) -> Mapping[str, object]:
    return {
        "id": user_id,
        "first_name": person.first_name,
        "last_name": person.last_name,
        "email": None,
        "phone_number": None,
        "tags": [],
    }


def _id_of(event_id: str, role: str) -> str:
    """32 hexadecimal digits that are the same in every run."""
    return uuid.uuid5(uuid.NAMESPACE_OID, f"{event_id}/{role}").hex
