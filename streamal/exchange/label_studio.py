"""Label Studio's JSON: encodes requests and examples as tasks, decodes annotations.

A task carries our coordinates in ``data.request``: Label Studio over SQLite uses the id of a deleted task again. The
fields are those of its import and export format
(https://labelstud.io/guide/tasks#Basic-Label-Studio-JSON-format), as version 1.23 reads and writes them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from streamal.core.labels import class_name
from streamal.core.records import Closing, EventId, FeatureValue, NaturalExample, Request
from streamal.core.vectors import describe_vector

__all__ = [
    "CHOICES",
    "MODEL_VERSION",
    "OBJECT",
    "Annotation",
    "closed_task",
    "label_config",
    "read_annotation",
    "request_task",
]

CHOICES = "label"
OBJECT = "features"
"""The names of the control, and of the object that it is about, in our labelling interface."""
MODEL_VERSION = "streamal"
_DAY_S = 86_400.0
"""A longer lead time is no work: the tab was left open over night."""
_HOTKEYS = "1234567890qwertzuiopasdfghjkl"


class Annotation(NamedTuple):
    """The content of one annotation.

    Attributes:
        reply: the name of this state of the annotation; an edit changes it.
        label: None for a skip.
        flaw: why the label cannot be read, "" if it can.
        seconds: seconds of work (``lead_time``).
    """

    reply: str
    label: str | None
    annotator: str | None
    seconds: float | None
    flaw: str


def label_config(classes: Sequence[str], texts: Sequence[str] = ()) -> str:
    """Return a labelling interface: each of the features *texts* in full, all others as a table, a key for each class.

    >>> print(label_config(["ham", "spam"]).splitlines()[1])
      <Table name="features" value="$features" />
    """
    view = Element("View")
    for name in texts:
        SubElement(view, "Header", value=name)
        SubElement(view, "Text", name=f"text_{name}", value=f"$text_{name}")
    SubElement(view, "Table", name=OBJECT, value=f"${OBJECT}")
    choices = SubElement(
        view, "Choices", name=CHOICES, toName=OBJECT, choice="single", required="true", showInline="true"
    )
    for number, label in enumerate(classes):
        element = SubElement(choices, "Choice", value=label)
        if number < len(_HOTKEYS):
            element.set("hotkey", _HOTKEYS[number])
    indent(view)  # one line for each child, as Label Studio's editor does
    return tostring(view, encoding="unicode")


def request_task(
    request: Request, texts: Sequence[str], priority: float, control: str = CHOICES, object_name: str = OBJECT
) -> dict[str, Any]:
    """Return the task that asks *request*, with the model's guess as its prediction in *control* about *object_name*.

    The prediction's score is 1 - *priority* (0 to 1): Label Studio's "uncertainty sampling" serves the lowest first.
    """
    result = [] if request.label is None else [_choice(request.label, control, object_name)]
    return {
        "data": _data(request.request, request.features, texts, request.id, request.time),
        "meta": {
            "asked_at": request.asked_at,
            "lane": str(request.lane),
            "strategy": request.strategy,
            "uncertainty": request.uncertainty,
            "propensity": request.propensity,
            "version": request.version,
            "expires_at": request.expires_at,
        },
        "predictions": [{"model_version": MODEL_VERSION, "score": 1.0 - priority, "result": result}],
    }


def closed_task(record: Closing | NaturalExample, texts: Sequence[str]) -> dict[str, Any]:
    """Return the task of a record of the training log, with its label or abstention as the annotation."""
    features: Mapping[str, FeatureValue] = getattr(record, "features", {})
    task: dict[str, Any] = {
        "data": _data(record.about, features, texts, getattr(record, "id", None), getattr(record, "time", None)),
        "meta": {
            name: value
            for name in ("asked_at", "at", "lane", "propensity", "predicted", "annotator", "reply", "cost")
            if (value := getattr(record, name, None)) is not None
        },
        "annotations": [],
    }
    if not record.closes_request or record.has_reply:
        result = [] if record.label is None else [_choice(record.label)]
        annotation = {"result": result, "was_cancelled": not result}
        seconds = getattr(record, "seconds", None)
        task["annotations"] = [annotation if seconds is None else {**annotation, "lead_time": seconds}]
    return task


def read_annotation(annotation: Mapping[str, Any]) -> Annotation:
    """Return the content of *annotation*, as the API or an export gives it.

    The label is the only choice of the control `CHOICES`, or of the only control.

    >>> chosen = {"from_name": "label", "type": "choices", "value": {"choices": ["spam"]}}
    >>> read_annotation({"id": 3, "updated_at": "2026-11-22T14:03:47.9Z", "result": [chosen], "lead_time": 2.5})
    Annotation(reply='ls-3-2026-11-22T14:03:47.9Z', label='spam', annotator=None, seconds=2.5, flaw='')
    """
    label, flaw = None, ""
    if not annotation.get("was_cancelled"):
        results = [each for each in _mappings(annotation.get("result")) if each.get("type") == "choices"]
        chosen = [each for each in results if each.get("from_name") == CHOICES] or results
        choices = [choice for each in chosen for choice in (each.get("value") or {}).get("choices", ())]
        if len(choices) == 1 and isinstance(choices[0], str):
            label = choices[0]
        else:
            flaw = f"it has {len(choices)} choices instead of one"
    seconds = annotation.get("lead_time")
    by = annotation.get("completed_by")
    person = by.get("email") or by.get("id") if isinstance(by, Mapping) else by
    identity = annotation.get("id")
    return Annotation(
        reply="" if identity is None else f"ls-{identity}-{annotation.get('updated_at', '')}",
        label=label,
        annotator=None if person is None else f"label-studio:{person}",
        seconds=float(seconds) if isinstance(seconds, int | float) and 0 <= seconds < _DAY_S else None,
        flaw=flaw,
    )


def _data(
    coordinates: str | None,
    features: Mapping[str, FeatureValue],
    texts: Sequence[str],
    identity: EventId,
    time: float | str | None,
) -> dict[str, Any]:
    """Return the data of a task; a text that the event lacks is empty: Label Studio requires every field."""
    table = {name: _cell(value) for name, value in features.items() if name not in texts}
    data: dict[str, Any] = {"request": coordinates, OBJECT: table}
    data |= {f"text_{name}": features.get(name, "") for name in texts}
    return data | {name: value for name, value in (("id", identity), ("time", time)) if value is not None}


def _cell(value: FeatureValue) -> float | str:
    """Return *value* as a cell of Label Studio's table, which shows a truth value as a blank cell."""
    if isinstance(value, bool):
        return class_name(value)
    return describe_vector(value) if isinstance(value, list) else value


def _choice(label: str, control: str = CHOICES, object_name: str = OBJECT) -> dict[str, Any]:
    return {"from_name": control, "to_name": object_name, "type": "choices", "value": {"choices": [label]}}


def _mappings(value: Any) -> list[Mapping[str, Any]]:
    return [each for each in value if isinstance(each, Mapping)] if isinstance(value, list) else []
