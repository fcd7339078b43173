"""The modern textbook solution: FastAPI, httpx and an async cache, the two calls at once."""

import asyncio
import os
from typing import Any

import httpx
from aiocache import SimpleMemoryCache
from fastapi import FastAPI

app = FastAPI()
cache = SimpleMemoryCache()
client = httpx.AsyncClient(
    base_url=os.environ["C42_API_URL"],
    headers={"Authorization": f"Token {os.environ['C42_API_TOKEN']}", "Accept": "application/json"},
    timeout=4,
)


@app.get("/events-with-subscriptions/{event_id}/")
async def event_with_subscriptions(event_id: str) -> Any:
    found = await cache.get(event_id)
    if found is None:
        event, names = await asyncio.gather(_get(f"events/{event_id}/", {}), _names(event_id))
        found = {"id": event_id, "title": event["data"][0]["title"], "names": names}
        await cache.set(event_id, found, ttl=252)
    return found


async def _names(event_id: str) -> list[str]:
    subscriptions: list[dict[str, Any]] = []
    while True:
        params: dict[str, str | int] = {"event_ids": f"[{event_id}]", "limit": 100, "offset": len(subscriptions)}
        page = await _get("event-subscriptions/", params)
        subscriptions += page["data"]
        if not page["data"] or len(subscriptions) >= page["meta_data"]["count"]:
            return [subscription["subscriber"]["first_name"] for subscription in subscriptions]


async def _get(path: str, params: dict[str, str | int]) -> Any:
    response = await client.get(path, params=params)
    response.raise_for_status()
    return response.json()
