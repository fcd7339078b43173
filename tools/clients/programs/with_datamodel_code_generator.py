"""What a program learns of each request through requests and the models that datamodel-code-generator makes."""

import json
import sys

import requests
from c42_proxy_models import Event, Problem


def learnt(method: str, url: str, event_id: str, if_none_match: str | None) -> dict[str, object]:
    answer = requests.request(
        method, f"{url}/events-with-subscriptions/{event_id}/", headers={"If-None-Match": if_none_match}, timeout=10
    )
    found: dict[str, object] = {"status": answer.status_code}
    if answer.status_code == 200 and method == "GET":
        found["names"] = Event.model_validate_json(answer.content).names
    elif answer.content:
        found["reason"] = Problem.model_validate_json(answer.content).reason
    if "Retry-After" in answer.headers:
        found["wait"] = int(answer.headers["Retry-After"])
    return found


json.dump([learnt(*request) for request in json.loads(sys.argv[1])], sys.stdout)
