"""The bridge's project in Label Studio: finds or creates it, and compares it with what the bridge needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from streamal.errors import ConfigError
from streamal.exchange.label_studio import CHOICES, MODEL_VERSION, OBJECT, label_config

__all__ = ["Project", "ProjectRules", "Projects", "require_project"]

_SAMPLING = "Uncertainty sampling"
"""Label Studio's name for the order in which the most valuable task comes first."""
_FIELDS = ("request", OBJECT, "id", "time")
"""The fields of a task's data, beside a ``text_NAME`` for each feature that is free text."""


class Projects(Protocol):
    """Label Studio's projects; see `streamal.edge.label_studio.LabelStudio` for what each call does and raises."""

    def projects(self, title: str) -> Sequence[Mapping[str, Any]]:
        """Return the projects of this title."""
        ...

    def project(self, number: int) -> Mapping[str, Any]:
        """Return a project."""
        ...

    def create_project(self, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        """Create a project."""
        ...

    def change_project(self, number: int, fields: Mapping[str, Any]) -> None:
        """Change a project."""
        ...


class ProjectRules(NamedTuple):
    """What the bridge needs of the project.

    Attributes:
        name: its title, or its number.
        classes: the labels.
        texts: the features that are free text.
        interface: a labelling interface to use instead of ours, None for ours.
        show_prediction: whether annotators see the model's guess.
    """

    name: str
    classes: tuple[str, ...]
    texts: tuple[str, ...]
    interface: str | None
    show_prediction: bool


class Project(NamedTuple):
    """The project that was found: its number, the control for labels, and the object that the control is about."""

    number: int
    control: str
    object_name: str


def require_project(server: Projects, rules: ProjectRules, *, change: bool) -> tuple[Project, Sequence[str]]:
    """Return the project and how its settings differ from the best ones, a line each; create it if there is none.

    With *change* the differing settings are changed.

    Raises:
        ConfigError: annotators could not give our labels there, or there is no such project.
    """
    wanted = {
        "sampling": _SAMPLING,
        "model_version": MODEL_VERSION,
        "show_collab_predictions": rules.show_prediction,
    }
    found = _find(server, rules.name)
    if found is None:
        interface = rules.interface or label_config(rules.classes, rules.texts)
        created = server.create_project({"title": rules.name, "label_config": interface, **wanted})
        found = server.project(created["id"])
    number = int(found["id"])
    if change:
        changes = {name: value for name, value in wanted.items() if found.get(name) != value}
        if _flaw(found, rules):
            changes["label_config"] = rules.interface or label_config(rules.classes, rules.texts)
        if changes:
            server.change_project(number, changes)
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
    control, object_name = _control(found)
    return Project(number, control, object_name), differences


def _find(server: Projects, name: str) -> Mapping[str, Any] | None:
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
    """Return why annotators cannot give our labels in *project*, "" if they can."""
    control, _ = _control(project)
    if not control:
        return f"its labelling interface has no control <Choices name={CHOICES!r} …>"
    parsed = project["parsed_label_config"]
    offered = list(parsed[control].get("labels", ()))
    if set(offered) != set(rules.classes):
        return f"its choices are {offered}, labels.classes are {list(rules.classes)}"
    fields = {*_FIELDS, *(f"text_{name}" for name in rules.texts)}
    shown = {source.get("value") for each in parsed.values() for source in each.get("inputs", ())}
    if shown - fields - {None}:
        return f"its interface shows {sorted(shown - fields - {None})}, tasks have {sorted(fields)}"
    return ""
