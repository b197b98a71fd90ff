"""The REST interface, described: what ``GET /api/openapi.json`` answers."""

from __future__ import annotations

from typing import Any

from streamal import __version__

__all__ = ["document"]

_ERROR = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}}
_ERRORS = {
    "401": {"description": "No token, or a wrong one.", **_ERROR},
    "403": {"description": "Not allowed for this role.", **_ERROR},
    "429": {"description": "Too many wrong tokens.", **_ERROR},
    "503": {"description": "The topics cannot be reached now; try again.", **_ERROR},
}


def document() -> dict[str, Any]:
    """Return the OpenAPI 3.1 document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "streamal: questions and answers",
            "version": __version__,
            "description": "Read the open requests, most valuable first, and answer them, from any tool.",
        },
        "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}, "schemas": _schemas()},
        "security": [{"token": []}],
        "paths": {
            "/api/requests": {"get": _requests()},
            "/api/labels": {"post": _labels()},
            "/api/events/{coordinates}": {"get": _events()},
            "/api/status": {"get": _status()},
        },
    }


def _requests() -> dict[str, Any]:
    limit = {"type": "integer", "minimum": 1, "maximum": 1000, "default": 50}
    return _operation(
        "List the open requests, most valuable first.",
        {"type": "object", "properties": {"waiting": {"type": "integer"}, "requests": _list("Request")}},
        parameters=[{"name": "limit", "in": "query", "schema": limit}],
    )


def _labels() -> dict[str, Any]:
    answer = {"application/json": {"schema": {"$ref": "#/components/schemas/Answer"}}}
    operation = _operation(
        "Answer a request. The same answer with the same `reply` may be sent again.",
        {"$ref": "#/components/schemas/Answered"},
        requestBody={"required": True, "content": answer},
    )
    operation["responses"] |= {
        "409": {"description": "Not open any more, or in somebody else's hands.", **_ERROR},
        "422": {"description": "The daemon would refuse this answer.", **_ERROR},
    }
    return operation


def _events() -> dict[str, Any]:
    place = {"type": "string", "pattern": r"^\d+-\d+$", "examples": ["0-1845"]}
    operation = _operation(
        "Return an event as it was written, and its request while that is open.",
        {"$ref": "#/components/schemas/Event"},
        parameters=[{"name": "coordinates", "in": "path", "required": True, "schema": place}],
    )
    operation["responses"]["404"] = {"description": "The log has no such event (any more).", **_ERROR}
    return operation


def _status() -> dict[str, Any]:
    return _operation("Return the figures of the status page (role admin).", {"type": "object"})


def _operation(summary: str, schema: dict[str, Any], **more: Any) -> dict[str, Any]:
    ok = {"description": "Done.", "content": {"application/json": {"schema": schema}}}
    return {"summary": summary, "responses": {"200": ok, **_ERRORS}, **more}


def _list(name: str) -> dict[str, Any]:
    return {"type": "array", "items": {"$ref": f"#/components/schemas/{name}"}}


def _schemas() -> dict[str, Any]:
    text, number, features = {"type": "string"}, {"type": "number"}, {"type": "object"}
    nothing: dict[str, Any] = {"type": ["string", "null"]}
    return {
        "Error": {"type": "object", "properties": {"error": text}},
        "Answer": {
            "type": "object",
            "required": ["request"],
            "additionalProperties": False,
            "description": "Exactly one of label and abstain.",
            "properties": {
                "request": text,
                "label": {"type": ["string", "boolean", "integer"]},
                "abstain": {"type": "boolean"},
                "seconds": {**number, "description": "Seconds of work."},
                "annotator": {**text, "description": "By default whose token it is; another needs the role admin."},
                "reply": {**text, "description": "Your own identity of this answer."},
            },
        },
        "Answered": {
            "type": "object",
            "properties": {"request": text, "guess": nothing, "agrees": {"type": ["boolean", "null"]}},
        },
        "Request": {
            "type": "object",
            "properties": {
                "request": text,
                "priority": {**number, "minimum": 0, "maximum": 1},
                "features": features,
                "asked_at": number,
                "expires_at": number,
                "held_by": nothing,
                "guess": nothing,
                "probabilities": features,
            },
        },
        "Event": {
            "type": "object",
            "properties": {"event": text, "features": features, "refused": nothing, "request": features},
        },
    }
