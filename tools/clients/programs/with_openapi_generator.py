"""What a program learns of each request through the client that openapi-generator makes."""

import json
import sys

from c42_proxy_openapi import ApiClient, Configuration, EventsApi, Problem
from c42_proxy_openapi.exceptions import ApiException


def learnt(method: str, url: str, event_id: str, if_none_match: str | None) -> dict[str, object]:
    # Otherwise urllib3 waits as long as `Retry-After` says, and asks again, three times before it tells of a 503.
    api = EventsApi(ApiClient(Configuration(host=url, retries=0)))
    try:
        if method == "HEAD":
            return {"status": api.head_event_with_subscriptions_with_http_info(event_id).status_code}
        answer = api.get_event_with_subscriptions_with_http_info(event_id, if_none_match=if_none_match)
    except ApiException as failure:
        found: dict[str, object] = {"status": failure.status}
        if isinstance(failure.data, Problem):
            found["reason"] = failure.data.reason
        if failure.headers and "Retry-After" in failure.headers:
            found["wait"] = int(failure.headers["Retry-After"])
        return found
    return {"status": answer.status_code, "names": answer.data.names}


json.dump([learnt(*request) for request in json.loads(sys.argv[1])], sys.stdout)
