"""Renders an event for a person: texts, images, links, and a table of everything else.

The result is data, never HTML: the page puts it into text nodes. A URL becomes an image only if its host is configured,
and a link only over http(s); any other value is shown as text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from markdown_it import MarkdownIt

from streamal.core.records import FeatureValue, Request
from streamal.core.vectors import describe_vector
from streamal.errors import ConfigError

__all__ = ["Template", "render", "render_guidelines"]

_LONG = 80
"""A text of at least so many characters gets a line of its own, even if the template does not name it."""
_TEXT_MAX = 20_000
"""Characters of one feature that are sent to a browser."""
_GUIDELINES_BYTES_MAX = 200_000


@dataclass(frozen=True, slots=True)
class Template:
    """The features to show as text, image or link, and those to hide; images are loaded from *image_hosts* only."""

    text: tuple[str, ...] = ()
    image: tuple[str, ...] = ()
    link: tuple[str, ...] = ()
    hide: tuple[str, ...] = ()
    image_hosts: tuple[str, ...] = ()


def render(request: Request, template: Template) -> dict[str, Any]:
    """Return what the page shows of *request*: the parts of the template in order, and a table of the other features.

    >>> request = Request("0-7", {"x": 1.0, "y": True}, None, {}, 0, "audit", "split", 0.25, 0.5, 0.0, 9.0)
    >>> render(request, Template())["table"]
    [['x', '1'], ['y', 'true']]
    """
    features = request.features
    parts = [_part(name, "text", features, template) for name in template.text]
    parts += [_part(name, "image", features, template) for name in template.image]
    parts += [_part(name, "link", features, template) for name in template.link]
    named = {*template.text, *template.image, *template.link, *template.hide}
    table = []
    for name, value in features.items():
        if name in named:
            continue
        if isinstance(value, str) and len(value) >= _LONG:
            parts.append(_part(name, "text", features, template))
        else:
            table.append([name, _format(value)])
    return {
        "request": request.request,
        "id": None if request.id is None else str(request.id),
        "time": None if request.time is None else str(request.time),
        "asked_at": request.asked_at,
        "expires_at": request.expires_at,
        "parts": [part for part in parts if part],
        "table": table,
    }


def render_guidelines(path: Path | None) -> str:
    """Return the Markdown file at *path* as HTML, "" without a path; HTML in it becomes text, images are left out.

    Raises:
        ConfigError: the file cannot be read.
    """
    if path is None:
        return ""
    try:
        data = path.read_bytes()
        if len(data) > _GUIDELINES_BYTES_MAX:
            raise ConfigError(f"label_page.guidelines: {path} has {len(data)} bytes, {_GUIDELINES_BYTES_MAX} allowed")
        text = data.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"label_page.guidelines: cannot read {path} as UTF-8 text: {error}") from error
    markdown = MarkdownIt("js-default", {"html": False, "linkify": False}).disable("image")
    return str(markdown.render(text))


def _part(name: str, kind: str, features: Mapping[str, FeatureValue], template: Template) -> dict[str, str] | None:
    if name not in features:
        return None
    text = _format(features[name])
    url = _parse_url(text)
    if kind == "image" and (url is None or url not in _image_origins(template)):
        kind = "text"
    if kind == "link" and url is None:
        kind = "text"
    return {"name": name, "kind": kind, "text": text}


def _image_origins(template: Template) -> set[tuple[str, str]]:
    return {("https", host) for host in template.image_hosts}


def _parse_url(text: str) -> tuple[str, str] | None:
    """Return (scheme, host with port) of an http(s) URL, None for anything else."""
    if any(character.isspace() or not character.isprintable() or character == "\\" for character in text):
        return None
    try:
        split = urlsplit(text)
        port = split.port
    except ValueError:
        return None
    if split.scheme not in ("http", "https") or not split.hostname or split.username is not None:
        return None
    return split.scheme, split.hostname if port is None else f"{split.hostname}:{port}"


def _format(value: FeatureValue) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.10g}"
    if isinstance(value, list):
        return describe_vector(value)
    return value if len(value) <= _TEXT_MAX else f"{value[:_TEXT_MAX]} … ({len(value)} characters)"
