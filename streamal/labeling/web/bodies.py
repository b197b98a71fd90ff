"""The JSON bodies of the REST interface, each a type; the OpenAPI document describes these very types."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from streamal.core.records import EventId, Scalar

__all__ = ["Answer", "AnswerResult", "Error", "FoundEvent", "NextBody", "OpenRequest", "OpenRequests", "SkipBody"]

Features = dict[str, Scalar]


class NextBody(msgspec.Struct, forbid_unknown_fields=True):
    """The body of ``POST /api/next``; *without* are the requests that the page shows already."""

    without: list[str] = []


class SkipBody(msgspec.Struct, forbid_unknown_fields=True):
    """The body of ``POST /api/skip``."""

    request: str


class Answer(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Exactly one of label and abstain."""

    request: Annotated[str, Meta(description="The coordinates of the request.")]
    label: str | bool | int | None = None
    abstain: bool = False
    seconds: Annotated[float, Meta(description="Seconds of work.", ge=0)] | None = None
    annotator: Annotated[str, Meta(description="Yourself by default; another needs the role admin.")] | None = None
    reply: Annotated[str, Meta(description="Your own identity of this answer.")] | None = None


class AnswerResult(msgspec.Struct):
    """The answer was written; *agrees* is null for an abstention."""

    request: str
    guess: Annotated[str | None, Meta(description="What the model predicted.")]
    agrees: Annotated[bool | None, Meta(description="Whether the label is the guess.")]


class OpenRequest(msgspec.Struct):
    """An open request; *guess* and *probabilities* only where label_page.show_prediction allows it."""

    request: str
    priority: Annotated[float, Meta(ge=0, le=1)]
    features: Features
    id: EventId
    time: float | str | None
    asked_at: float
    expires_at: float
    held_by: Annotated[str | None, Meta(description="The annotator to whom it is leased.")]
    guess: str | UnsetType | None = UNSET
    probabilities: dict[str, float] | UnsetType = UNSET


class OpenRequests(msgspec.Struct):
    """The most valuable open requests, and how many there are in all."""

    waiting: int
    requests: list[OpenRequest]


class FoundEvent(msgspec.Struct):
    """An event as it was written, or why it was refused; *request* while its label is asked for."""

    event: str
    features: Features | UnsetType = UNSET
    id: EventId | UnsetType = UNSET
    time: float | str | UnsetType | None = UNSET
    refused: str | UnsetType = UNSET
    request: OpenRequest | UnsetType = UNSET


class Error(msgspec.Struct):
    """Why a request was not served."""

    error: str
