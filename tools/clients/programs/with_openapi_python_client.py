"""What a program learns of each request through the client that openapi-python-client makes."""

import json
import sys

from c42_proxy_client import Client
from c42_proxy_client.api.events import get_event_with_subscriptions, head_event_with_subscriptions
from c42_proxy_client.models import Event, Problem
from c42_proxy_client.types import UNSET


def learnt(method: str, url: str, event_id: str, if_none_match: str | None) -> dict[str, object]:
    with Client(base_url=url) as client:
        if method == "HEAD":
            return {"status": head_event_with_subscriptions.sync_detailed(event_id, client=client).status_code}
        answer = get_event_with_subscriptions.sync_detailed(
            event_id, client=client, if_none_match=if_none_match or UNSET
        )
    found: dict[str, object] = {"status": answer.status_code}
    if isinstance(answer.parsed, Event):
        found["names"] = answer.parsed.names
    elif isinstance(answer.parsed, Problem):
        found["reason"] = answer.parsed.reason
    if "Retry-After" in answer.headers:
        found["wait"] = int(answer.headers["Retry-After"])
    return found


json.dump([learnt(*request) for request in json.loads(sys.argv[1])], sys.stdout)
