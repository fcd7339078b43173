"""Converts entries to the bytes that shared stores keep, and back. Bytes that are read are checked, not trusted."""

import hashlib
import json
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from .contract import Entry

FORMAT = 1
"""The version of everything in a shared store, states too. After a change, older entries are not seen."""


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")

    id: str
    title: str | None
    names: list[str]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid")

    event_id: str
    status: Literal[200, 404]
    fetched_at: float
    answer: _Answer | None


def fingerprint(api_url: str, token: str) -> str:
    """Sixteen hexadecimal digits that differ for each C42, token and format, and do not reveal the token."""
    return hashlib.sha256(json.dumps([FORMAT, api_url, token]).encode()).hexdigest()[:16]


def from_bytes(event_id: str, record: object) -> Entry | None:
    """The entry of this event that we wrote as `record`; None if we cannot have written it."""
    if not isinstance(record, bytes):
        return None
    try:
        read = _Record.model_validate_json(record)
    except ValidationError:
        return None
    if read.answer is not None and read.answer.id != event_id:
        return None
    body = b"" if read.answer is None else read.answer.model_dump_json().encode()
    entry = Entry(read.status, body, read.fetched_at)
    # The shape alone allows records that we never write: another event's 404, a 200 without an answer, NaN, spaces.
    return entry if to_bytes(event_id, entry) == record else None


def to_bytes(event_id: str, entry: Entry) -> bytes:
    """The bytes from which `from_bytes` restores exactly this entry. Its body is an answer for this event."""
    # Not with a JSON encoder for the whole: that takes a third of the time of reading a record.
    head = f'{{"event_id":{_json.encode(event_id)},"status":{entry.status},"fetched_at":{float(entry.fetched_at)!r}'
    answer = b"null" if entry.status == 404 else entry.body
    return b'%b,"answer":%b}' % (head.encode(), answer)


# `json.dumps` would make a new encoder each time.
_json = json.JSONEncoder()
