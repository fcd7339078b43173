"""The operators' port: metrics and health, on an address of its own, answered by the workers."""

import json
from http import HTTPStatus
from typing import Literal

from flask import Flask, Response
from prometheus_client import CONTENT_TYPE_LATEST

from ..caching.circuit_breaker import CircuitBreaker, Degraded
from ..observability.metrics import Metrics
from ..stores.tiered import TieredStore
from .responses import NO_STORE

Status = Literal["alive", "ready", "degraded"]
Part = Literal["store", Degraded]


def create_ops(metrics: Metrics, store: TieredStore, breaker: CircuitBreaker) -> Flask:
    """`/metrics`, `/healthz` and `/readyz`, for operators; never on the public port."""
    ops = Flask("c42_proxy.ops", static_folder=None)

    @ops.get("/metrics")
    def exposition() -> Response:
        return Response(metrics.exposition(), content_type=CONTENT_TYPE_LATEST)

    @ops.get("/healthz")
    def alive() -> Response:
        """Any answer means that a worker runs. It asks neither the store nor C42."""
        return _json("alive")

    @ops.get("/readyz")
    def ready() -> Response:
        """A worker takes requests. Degraded parts are named; the worker is ready all the same, because it answers."""
        # This reads the store, which shows whether it fails.
        of_c42 = breaker.degraded()
        degraded: list[Part] = ["store", *of_c42] if store.failed else [*of_c42]
        return _json("degraded" if degraded else "ready", degraded=degraded)

    return ops


def _json(status: Status, **others: list[Part]) -> Response:
    response = Response(json.dumps({"status": status, **others}), HTTPStatus.OK, content_type="application/json")
    response.headers.extend(NO_STORE)
    return response
