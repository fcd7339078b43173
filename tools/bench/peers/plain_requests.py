"""Two calls for each event with `requests` and nothing else: `python -m tools.bench.peers.plain_requests plain 100`.

Prints the CPU seconds that they took. `session` keeps the connection and saves what `requests.get` sets up each time.
"""

import os
import sys
import time

import requests

URL = os.environ["C42_API_URL"]
HEADERS = {"Authorization": f"Token {os.environ['C42_API_TOKEN']}", "Accept": "application/json"}


def main(kind: str, events: int) -> None:
    get = requests.Session().get if kind == "session" else requests.get
    began = time.process_time()
    for number in range(events):
        event_id = f"1-plain-{number}"
        get(f"{URL}events/{event_id}/", headers=HEADERS, timeout=4).json()
        params: dict[str, str | int] = {"event_ids": f"[{event_id}]", "limit": 100, "offset": 0}
        get(f"{URL}event-subscriptions/", params=params, headers=HEADERS, timeout=4).json()
    print(time.process_time() - began)


main(sys.argv[1], int(sys.argv[2]))
