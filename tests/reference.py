"""The reference pages of the documentation, made from the code: ``python -m tests.documents`` writes them anew."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import typer.main

from streamal import errors
from streamal.cli import app
from streamal.core import records
from streamal.core.records import Outcome, Reason
from streamal.edge.kafka.acls import ROLES

ROOT = Path(__file__).parent.parent
PAGES = ROOT / "docs/reference"
_CONFIG = """\
Strongest first: `--set section.key=value`, the environment variable `STREAMAL_SECTION__KEY`, the file, the default.
Unknown keys and variables are errors. The repository has a file with all keys, `config.toml`.
"""
_METRICS = """\
Each worker serves them at `/metrics`, in the text format of Prometheus or, if the client asks for it, as OpenMetrics.
There exemplars name the event of a slow step, a request or a dead letter by its coordinates. The number of
series is bounded, whatever the input. A gauge without a value is left out.
"""
_FAILURE = "failure: the cluster was away too long, a newer worker has taken over, `verify` has found a broken promise"
_WRONG = "usage or configuration: an option, a key, a topic, a file; or the log contradicts what was committed"
_MADE = "<!-- Made from the code by `python -m tests.documents`: change it there. -->\n"

REASONS: Mapping[str, str] = {
    "tombstone": "The record has no value.",
    "killed_the_worker": "The process died each time that this event was predicted.",
    "record_too_big": "The record is larger than `limits.record_bytes`; it was not parsed.",
    "not_utf8": "The bytes are not UTF-8.",
    "not_json": "The text is not JSON.",
    "not_an_object": "The record is JSON, but not an object.",
    "too_deep": "The JSON is nested deeper than any event.",
    "bad_field": "A field of streamal has the wrong type, or is missing.",
    "number_out_of_range": "A number is NaN, infinite, or beyond `limits.magnitude`.",
    "null_feature": 'A feature is null, and `features.null` is "refuse".',
    "feature_type": "A feature has another type than the schema says, or is a list or an object.",
    "feature_name": "A name is longer than `limits.feature_name_bytes`, or empty.",
    "feature_unknown": 'A name is not in the schema, and `features.unknown` is "refuse".',
    "features_too_many": "The event has more than `limits.features` features.",
    "features_empty": "The event has no feature, or none that the schema knows.",
    "label_unknown": "The label is not among `labels.classes`, and new ones are refused.",
    "classes_too_many": "The annotator's replies have created `limits.classes_per_annotator` classes today.",
    "event_missing": "A natural label names an event that does not exist (any more).",
    "event_refused": "A natural label names an event that was itself refused.",
    "reply_incomplete": "The reply has neither a label nor an abstention, or names no request.",
    "not_supported": "The record asks for something that this version cannot do, e.g. `supersedes`.",
    "unreadable": "The record's batch is damaged, too large or of an unknown codec; `streamal skip` has left it out.",
}  # fmt: skip
OUTCOMES: Mapping[str, str] = {
    "accepted": "It is the first valid reply to an open request; the model learns it.",
    "abstained": "The annotator cannot tell. The request is closed; the model learns nothing.",
    "duplicate": "The same answer came before. It is counted and changes nothing.",
    "conflicting": "Another answer closed the request before. It is counted and changes nothing.",
    "late": "The request had expired. It is counted and changes nothing.",
    "unknown": "There is no such request, as far back as `limits.closed_requests`.",
    "refused": "The reply is not readable or not allowed; it is among the dead letters, with its reason.",
}


def cli_page() -> str:
    """Return the page of all commands and their options."""
    parts = [_MADE, "# Commands\n", "Exit codes: 0 ok, 1 failure, 2 usage or configuration; see [Errors](errors.md).\n"]
    for name, command in commands():
        parts += [f"## streamal {name}\n", _prose(command.help or ""), _options(command), ""]
    return "\n".join(parts)


def commands() -> Iterator[tuple[str, Any]]:
    """Yield (name, command) of every command, those inside groups too."""
    group: Any = typer.main.get_command(app)
    for name, command in sorted(group.commands.items()):
        if hasattr(command, "commands"):
            yield from ((f"{name} {inner}", each) for inner, each in sorted(command.commands.items()))
        else:
            yield name, command


def _prose(text: str) -> str:
    return f"{inspect.cleandoc(text)}\n"


def _options(command: Any) -> str:
    rows = []
    for parameter in command.params:
        if getattr(parameter, "hidden", False) or parameter.name == "help":
            continue
        named = (
            ", ".join(f"`{one}`" for one in parameter.opts)
            if parameter.param_type_name == "option"
            else f"`{parameter.name.upper()}`"
        )
        default = (
            ""
            if parameter.default in (None, (), "", False) or callable(parameter.default)
            else f" Default: `{parameter.default}`."
        )
        rows.append(f"| {named} | {_cell(' '.join((getattr(parameter, 'help', '') or '').split()))}{default} |")
    return "\n".join(["| option | meaning |", "|---|---|", *rows]) if rows else "It has no options."


def records_page() -> str:
    """Return the page of everything that travels on the topics, from the source of `streamal.core.records`."""
    tree = ast.parse(Path(str(records.__file__)).read_text())
    wire = {
        "Prediction": "predictions", "Request": "requests", "Example": "training", "Abstention": "training",
        "Expiry": "training", "NaturalExample": "training", "SchemaSet": "training", "WarmStart": "training",
        "Quarantine": "training",
    }  # fmt: skip
    parts = [
        _MADE,
        "# Records\n",
        "Each record is one JSON object. A field is left out where it has its default.",
        "What you send (events, replies, natural labels) is in [First ten minutes](../first-ten-minutes.md).\n",
    ]
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name in wire:
            parts += [f"## {node.name}\n", f"On `{wire[node.name]}`. {ast.get_docstring(node) or ''}\n"]
            parts += ["| field | type | default | meaning |", "|---|---|---|---|", *_fields(node), ""]
    parts += [
        "## Why an input is refused\n",
        "This is the `reason` of a dead letter, and the label of `streamal_dead_letters_total`.\n",
    ]
    parts += ["| reason | meaning |", "|---|---|", *(f"| `{name}` | {REASONS[name]} |" for name in Reason), ""]
    parts += [
        "## What becomes of a reply\n",
        "Each reply has one outcome; it is the label of `streamal_replies_total`.\n",
    ]
    parts += ["| outcome | meaning |", "|---|---|", *(f"| `{name}` | {OUTCOMES[name]} |" for name in Outcome)]
    return "\n".join(parts) + "\n"


def _fields(node: ast.ClassDef) -> Iterator[str]:
    for number, part in enumerate(node.body):
        if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name):
            after = node.body[number + 1] if number + 1 < len(node.body) else None
            about = ""
            if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                about = " ".join(str(after.value.value).split())
            default = f"`{ast.unparse(part.value)}`" if part.value is not None else ""
            yield f"| `{part.target.id}` | `{_cell(ast.unparse(part.annotation))}` | {default} | {_cell(about)} |"


def errors_page() -> str:
    """Return the page of all errors and exit codes."""
    tree = re.search(r"::\n\n(.*?)\n\n\w", inspect.getdoc(errors) or "", flags=re.DOTALL)
    assert tree is not None
    parts = [
        _MADE,
        "# Errors and exit codes\n",
        "An error of streamal is one line on standard error: what happened, where, and what to do.",
        "A traceback is a defect: please report it.\n",
        "| exit code | meaning | what a supervisor does |",
        "|---|---|---|",
        "| 0 | ok | nothing |",
        f"| 1 | {_FAILURE} | start it again; nothing is lost |",
        f"| 2 | {_WRONG} | nothing: no restart can mend it |\n",
        "```text",
        inspect.cleandoc(tree[1]),
        "```\n",
    ]
    for name in errors.__all__:
        kind = getattr(errors, name)
        parts += [f"## {name}\n", f"Exit code {kind.exit_code}. {inspect.getdoc(kind)}\n"]
    parts.append("Bad input is not an error: see [why an input is refused](records.md#why-an-input-is-refused).")
    return "\n".join(parts) + "\n"


def acl_roles() -> str:
    """Return the table of roles, for the page on security."""
    return "\n".join(["| role | who |", "|---|---|", *(f"| `{role}` | {who} |" for role, who in ROLES.items())])


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def pages(config_table: str, metrics_table: str) -> Mapping[Path, str]:
    """Return path -> text of every page that is made from the code."""
    return {
        PAGES / "config.md": f"{_MADE}\n# Configuration\n\n{_CONFIG}\n{config_table}\n",
        PAGES / "metrics.md": f"{_MADE}\n# Metrics\n\n{_METRICS}\n{metrics_table}\n",
        PAGES / "commands.md": cli_page(),
        PAGES / "records.md": records_page(),
        PAGES / "errors.md": errors_page(),
    }
