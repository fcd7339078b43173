"""A small proxy that keeps every rule of the exercise: `python -m tools.judge.small`. And five that break one each.

`python -m tools.judge.small FAULT` is wrong in one way: see `FAULTS`. It is used to judge the judgement.
"""

import json
import os
import sys
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

CRASHES = "a removed subscriber crashes"
FAULTS = ("first page only", "a second early", "a failure cached", CRASHES, "prolonged by reading")

fault = " ".join(sys.argv[1:])
ttl = 251 if fault == "a second early" else 252
cache: dict[str, tuple[float, int, bytes]] = {}


def called(path: str) -> Any:
    headers = {"Authorization": f"Token {os.environ['C42_API_TOKEN']}"}
    request = urllib.request.Request(os.environ["C42_API_URL"] + path, headers=headers)  # noqa: S310  # http, from our caller
    with urllib.request.urlopen(request, timeout=4) as response:  # noqa: S310  # the same
        return json.load(response)


def combined(event_id: str) -> bytes:
    event, names, offset = called(f"events/{event_id}/")["data"][0], [], 0
    while True:
        page = called(f"event-subscriptions/?event_ids=%5B{event_id}%5D&limit=100&offset={offset}")
        subscriptions = [each for each in page["data"] if each["permission"] != "removed" or fault == CRASHES]
        names += [each["subscriber"]["first_name"] for each in subscriptions]
        offset += len(page["data"])
        if fault == "first page only" or not page["data"] or offset >= page["meta_data"]["count"]:
            break
    names = [name for name in names if name and name.strip()]
    answer = {"id": event["id"], "title": event["title"], "names": names}
    return json.dumps(answer, ensure_ascii=False, separators=(",", ":")).encode()


def given(event_id: str) -> tuple[int, bytes]:
    now = time.time()
    asked, status, body = cache.get(event_id, (0, 0, b""))
    if now < asked + ttl:
        if fault == "prolonged by reading":
            cache[event_id] = now, status, body
        return status, body
    try:
        status, body = 200, combined(event_id)
    except Exception:  # noqa: BLE001  # whatever C42 does
        status, body = 502, b"{}"
    if status == 200 or fault == "a failure cached":
        cache[event_id] = now, status, body
    return status, body


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        _, place, event_id, *_ = [*self.path.partition("?")[0].split("/"), "", ""]
        status, body = given(event_id) if place == "events-with-subscriptions" else (404, b"{}")
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
