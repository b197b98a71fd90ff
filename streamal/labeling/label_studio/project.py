"""The bridge's project in Label Studio: found or made, and compared with what the bridge needs of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from streamal.errors import ConfigError
from streamal.exchange.label_studio import CHOICES, MODEL_VERSION, SHOWN, label_config

__all__ = ["Project", "ProjectRules", "Projects", "require_project"]

_MOST_VALUABLE_FIRST = "Uncertainty sampling"
_CARRIED = ("request", SHOWN, "id", "time")
"""The fields of a task's data, beside a ``text_NAME`` for each feature that is free text."""


class Projects(Protocol):
    """Label Studio's projects; `streamal.edge.label_studio.LabelStudio` says what each call does and raises."""

    def projects(self, title: str) -> Sequence[Mapping[str, Any]]:
        """Return the projects of this title."""
        ...

    def project(self, number: int) -> Mapping[str, Any]:
        """Return one."""
        ...

    def create_project(self, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        """Make one."""
        ...

    def change_project(self, number: int, fields: Mapping[str, Any]) -> None:
        """Change one."""
        ...


class ProjectRules(NamedTuple):
    """What the project has to be.

    Attributes:
        name: its title, or its number.
        classes: the labels.
        texts: the features that are free text.
        interface: a labelling interface in place of ours, None for ours.
        show_prediction: whether annotators see the model's guess.
    """

    name: str
    classes: tuple[str, ...]
    texts: tuple[str, ...]
    interface: str | None
    show_prediction: bool


class Project(NamedTuple):
    """The project as it is: its number, and the control that labels are given with."""

    number: int
    control: str
    shown: str


def require_project(server: Projects, rules: ProjectRules, *, change: bool) -> tuple[Project, Sequence[str]]:
    """Return the project, made if there is none of this title, and how it differs from what is best, a line each.

    With *change* it is changed where it differs.

    Raises:
        ConfigError: labels could not be given there, or there is no such project.
    """
    wanted = {
        "sampling": _MOST_VALUABLE_FIRST,
        "model_version": MODEL_VERSION,
        "show_collab_predictions": rules.show_prediction,
    }
    found = _found(server, rules.name)
    if found is None:
        interface = rules.interface or label_config(rules.classes, rules.texts)
        made = server.create_project({"title": rules.name, "label_config": interface, **wanted})
        found = server.project(made["id"])
    number = int(found["id"])
    if change:
        mends = {name: value for name, value in wanted.items() if found.get(name) != value}
        if _flaw(found, rules):
            mends["label_config"] = rules.interface or label_config(rules.classes, rules.texts)
        if mends:
            server.change_project(number, mends)
            found = server.project(number)
    flaw = _flaw(found, rules)
    if flaw:
        raise ConfigError(
            f"bridge.project: project {number} ({found.get('title')!r}) cannot be used: {flaw}. Change its labelling "
            "interface there, or let `streamal bridge label-studio --change` put ours in its place"
        )
    differences = [
        f"{name} is {found.get(name)!r}, {value!r} would be right"
        for name, value in wanted.items()
        if found.get(name) != value
    ]
    control, shown = _control(found)
    return Project(number, control, shown), differences


def _found(server: Projects, name: str) -> Mapping[str, Any] | None:
    if name.isdecimal():
        return server.project(int(name))
    found = server.projects(name)
    if len(found) > 1:
        numbers = ", ".join(str(project["id"]) for project in found)
        raise ConfigError(f"bridge.project: several projects are called {name!r}: set the number of one, {numbers}")
    return server.project(found[0]["id"]) if found else None


def _control(project: Mapping[str, Any]) -> tuple[str, str]:
    """Return the names of the control for labels and of the object it is about, ("", "") without one."""
    parsed = project.get("parsed_label_config") or {}
    choices = [name for name, each in parsed.items() if each.get("type") == "Choices"]
    name = CHOICES if CHOICES in choices else choices[0] if len(choices) == 1 else ""
    return (name, parsed[name]["to_name"][0]) if name else ("", "")


def _flaw(project: Mapping[str, Any], rules: ProjectRules) -> str:
    """Return why answers in *project* would not be labels of ours, "" if they are."""
    control, _ = _control(project)
    if not control:
        return f"its labelling interface has no control <Choices name={CHOICES!r} …>"
    parsed = project["parsed_label_config"]
    offered = list(parsed[control].get("labels", ()))
    missing, strange = [c for c in rules.classes if c not in offered], [c for c in offered if c not in rules.classes]
    if missing or strange:
        return f"its choices are {offered}, labels.classes are {list(rules.classes)}"
    carried = {*_CARRIED, *(f"text_{name}" for name in rules.texts)}
    shown = {source.get("value") for each in parsed.values() for source in each.get("inputs", ())}
    if shown - carried - {None}:
        return f"its interface shows {sorted(shown - carried - {None})}, tasks have {sorted(carried)}"
    return ""
