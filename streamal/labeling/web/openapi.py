"""The OpenAPI document of the REST interface, the response of ``GET /api/openapi.json``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from streamal import __version__
from streamal.labeling.web.bodies import COORDINATES, Answer, AnswerResult, Error, FoundEvent, OpenRequests

__all__ = ["document"]

Json = dict[str, Any]
_BODIES = (Answer, AnswerResult, Error, FoundEvent, OpenRequests)
_ERRORS = {
    "401": "No token, or a wrong one.",
    "403": "Not allowed for this role, or sent by another site's page.",
    "429": "Too many wrong tokens.",
    "503": "The topics cannot be read now; try again.",
}
"""What every operation may answer."""


_LABEL_OR_ABSTENTION = [
    {"required": ["label"], "properties": {"label": {"not": {"type": "null"}}, "abstain": {"const": False}}},
    {"required": ["abstain"], "properties": {"label": {"type": "null"}, "abstain": {"const": True}}},
]
"""What the fields of an answer allow together; msgspec describes each field by itself."""


def document() -> Json:
    """Return the OpenAPI 3.1 document."""
    references, schemas = msgspec.json.schema_components(_BODIES, ref_template="#/components/schemas/{name}")
    schemas["Answer"]["oneOf"] = _LABEL_OR_ABSTENTION
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "streamal: open requests and answers",
            "version": __version__,
            "description": "Read the open requests, most valuable first, and answer them, from any tool.",
        },
        "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}, "schemas": schemas},
        "security": [{"token": []}],
        "paths": _paths(dict(zip(_BODIES, references, strict=True))),
    }


def _paths(schema_of: Mapping[type, Json]) -> Json:
    error = {"content": {"application/json": {"schema": schema_of[Error]}}}
    limit = {"type": "integer", "minimum": 1, "maximum": 1000, "default": 50}
    coordinates = {"type": "string", "pattern": COORDINATES, "examples": ["0-1845"]}
    requests = _operation(
        "List the open requests, most valuable first.",
        schema_of[OpenRequests],
        error,
        {"422": "The limit is no number from 1 to 1000."},
        parameters=[{"name": "limit", "in": "query", "schema": limit}],
    )
    labels = _operation(
        "Answer a request. The same answer with the same `reply` may be sent again.",
        schema_of[AnswerResult],
        error,
        {
            "409": "Not open any more, leased to somebody else, or not one of the classes.",
            "413": "The body is too long.",
            "422": "Not an answer as described here.",
        },
        requestBody={"required": True, "content": {"application/json": {"schema": schema_of[Answer]}}},
    )
    events = _operation(
        "Return an event as it was written, and its request while that is open.",
        schema_of[FoundEvent],
        error,
        {"404": "The log has no such event (any more)."},
        parameters=[{"name": "coordinates", "in": "path", "required": True, "schema": coordinates}],
    )
    status = _operation("Return the figures of the status page (role admin).", {"type": "object"}, error, {})
    return {
        "/api/requests": {"get": requests},
        "/api/labels": {"post": labels},
        "/api/events/{coordinates}": {"get": events},
        "/api/status": {"get": status},
    }


def _operation(summary: str, schema: Json, error: Json, errors: dict[str, str], **more: Any) -> Json:
    """Return an operation whose response is of *schema*, and that may answer *errors*, status -> description."""
    ok = {"description": "Done.", "content": {"application/json": {"schema": schema}}}
    failed = {status: {"description": text, **error} for status, text in sorted({**_ERRORS, **errors}.items())}
    return {"summary": summary, "responses": {"200": ok, **failed}, **more}
