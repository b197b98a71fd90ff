"""The JSON bodies of the REST interface, each a type; the OpenAPI document describes these very types."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from streamal.core.records import EventId, FeatureValue

__all__ = [
    "COORDINATES",
    "Answer",
    "AnswerResult",
    "Error",
    "FoundEvent",
    "NextBody",
    "OpenRequest",
    "OpenRequests",
    "SkipBody",
]

Features = dict[str, FeatureValue]
COORDINATES = "^(0|[1-9][0-9]{0,8})-(0|[1-9][0-9]{0,17})$"


class NextBody(msgspec.Struct, forbid_unknown_fields=True):
    """The body of ``POST /api/next``; *without* are the requests that the page shows already."""

    without: list[str] = []


class SkipBody(msgspec.Struct, forbid_unknown_fields=True):
    """The body of ``POST /api/skip``."""

    request: str


Label = Annotated[str, Meta(description="At most 256 bytes.", min_length=1, max_length=256)]
Integer = Annotated[int, Meta(ge=-(2**53), le=2**53)]
Whole = Annotated[float, Meta(ge=-(2.0**53), le=2.0**53, multiple_of=1)]
"""1.0 is an integer to JSON Schema, and to a client whose numbers are all floats."""
Annotator = Annotated[
    str, Meta(description="Yourself by default; another needs the role admin.", min_length=1, max_length=64)
]
ReplyId = Annotated[str, Meta(description="Your own identity of this answer.", pattern="^[ -~]{1,256}$")]


class Answer(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Exactly one of label and abstain.

    The bounds are those that the daemon has for a reply: F71, what the description allows is not refused.
    """

    request: Annotated[str, Meta(description="The coordinates of the request.", pattern=COORDINATES)]
    label: Label | bool | Integer | Whole | None = None
    abstain: bool = False
    seconds: Annotated[float, Meta(description="Seconds of work.", ge=0, le=1e12)] | None = None
    annotator: Annotator | None = None
    reply: ReplyId | None = None

    def to_reply(self, annotator: str) -> bytes:
        """Return the reply that *annotator* gives, as the topic of labels has it."""
        label = int(self.label) if isinstance(self.label, float) else self.label
        body = {"request": self.request, "annotator": annotator}
        optional = {"reply": self.reply, "seconds": self.seconds, "label": label, "abstain": self.abstain or None}
        return msgspec.json.encode(body | {name: value for name, value in optional.items() if value is not None})


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
