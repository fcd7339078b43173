"""An entry as bytes, and back: what the shared stores hold. Nothing that is read is trusted."""

import hashlib
import json
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from .contract import Entry

FORMAT = 1
"""The version of all that is kept in a shared store, notes too. With another one, older entries are not seen."""


class _Answer(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    id: str
    title: str | None
    names: list[str]


class _Record(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    event_id: str
    status: Literal[200, 404]
    fetched_at: float
    answer: _Answer | None


def fingerprint(api_url: str, token: str) -> str:
    """Sixteen hexadecimal digits that differ for each C42, token and format. They do not give the token away."""
    return hashlib.sha256(json.dumps([FORMAT, api_url, token]).encode()).hexdigest()[:16]


def to_bytes(event_id: str, entry: Entry) -> bytes | None:
    """What `from_bytes` makes this very entry of; None where it could not: the body is no answer for this event."""
    record = _written(event_id, entry)
    return record if from_bytes(event_id, record) == entry else None


def from_bytes(event_id: str, record: object) -> Entry | None:
    """The entry of this event that we wrote as `record`; None for anything that we cannot have written."""
    if not isinstance(record, bytes):
        return None
    try:
        read = _Record.model_validate_json(record)
    except ValidationError:
        return None
    if read.answer is not None and read.answer.id != event_id:
        return None
    body = b"" if read.answer is None else _compact(read.answer.model_dump())
    entry = Entry(read.status, body, read.fetched_at)
    # The shape alone leaves room for what we never write: another event's 404, a 200 without an answer, spaces.
    return entry if _written(event_id, entry) == record else None


def _written(event_id: str, entry: Entry) -> bytes:
    head = _compact({"event_id": event_id, "status": entry.status, "fetched_at": float(entry.fetched_at)})
    answer = b"null" if entry.status == 404 else entry.body
    return head[:-1] + b',"answer":' + answer + b"}"


def _compact(value: object) -> bytes:
    return _json.encode(value).encode()


# One for all: `json.dumps` would make a new one each time.
_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
