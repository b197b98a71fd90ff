"""A small Label Studio that behaves as the recorded exchanges with 1.23.2 did, on a port of its own, with faults.

What was recorded, and is kept here: ids that SQLite gives out again; ``ordering`` ignored but for ``query``; an empty
page beyond the end is a 404 only for page numbers; every change of an annotation moves the task's ``updated_at``;
``include`` that leaves fields out of the annotations too; ``parsed_label_config``; 401 with a JSON body; refresh tokens
(``/api/token/refresh/``) and legacy ones.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree as ET

LEGACY = "0123456789abcdef0123456789abcdef01234567"
PERSONAL = "header.refresh.signature"


class FakeLabelStudio:
    """The server's state; `answer` is its whole API. One lock serves all."""

    def __init__(self) -> None:
        self.projects: dict[int, dict[str, Any]] = {}
        self.tasks: dict[int, dict[str, Any]] = {}
        self.access = 0
        self.faults: list[tuple[str, Callable[[], Any]]] = []
        """(method and beginning of a path, what happens in place of the answer), each once."""
        self.calls: list[str] = []
        self._lock = threading.Lock()
        self._moment = 0

    def annotations(self) -> dict[int, tuple[dict[str, Any], dict[str, Any]]]:
        return {each["id"]: (task, each) for task in self.tasks.values() for each in task["annotations"]}

    def answer(self, method: str, path: str, query: dict[str, str], body: Any, token: str) -> tuple[int, Any]:
        with self._lock:
            self.calls.append(f"{method} {path}")
            if path == "/api/token/refresh/":
                if body != {"refresh": PERSONAL}:
                    return 401, {"detail": "Token is invalid"}
                self.access += 1
                return 200, {"access": f"access-{self.access}"}
            if token not in (f"Token {LEGACY}", f"Bearer access-{self.access}"):
                return 401, {"detail": "Invalid token."}
            parts = path.strip("/").split("/")[1:]
            found: tuple[int, Any] = getattr(self, f"_{method.lower()}_{parts[0]}")(parts[1:], query, body)
            return found

    def _get_projects(self, parts: list[str], query: dict[str, str], body: Any) -> tuple[int, Any]:
        if not parts:
            found = [each for each in self.projects.values() if query.get("title", "") in each["title"]]
            return 200, {"results": found}
        project = self.projects.get(int(parts[0]))
        return (200, project) if project else (404, {"detail": "No Project matches the given query."})

    def _post_projects(self, parts: list[str], query: dict[str, str], body: Any) -> tuple[int, Any]:
        if parts:
            assert parts[1] == "import"
            assert query["return_task_ids"] == "true"
            return 201, {"task_ids": [self._new_task(task) for task in body]}
        number = max(self.projects, default=0) + 1
        self.projects[number] = {"id": number, "show_collab_predictions": True, **body}
        self._parse(self.projects[number])
        return 201, self.projects[number]

    def _patch_projects(self, parts: list[str], query: dict[str, str], body: Any) -> tuple[int, Any]:
        self.projects[int(parts[0])] |= body
        self._parse(self.projects[int(parts[0])])
        return 200, self.projects[int(parts[0])]

    def _parse(self, project: dict[str, Any]) -> None:
        parsed = {}
        root = ET.fromstring(project["label_config"])
        for control in root.iter("Choices"):
            shown = next(each for each in root.iter() if each.get("name") == control.get("toName"))
            parsed[control.get("name")] = {
                "type": "Choices",
                "to_name": [control.get("toName")],
                "inputs": [{"type": shown.tag, "value": (shown.get("value") or "").removeprefix("$")}],
                "labels": [choice.get("value") for choice in control.iter("Choice")],
            }
        project["parsed_label_config"] = parsed

    def _get_tasks(self, parts: list[str], query: dict[str, str], body: Any) -> tuple[int, Any]:
        if parts:
            return (200, self.tasks[int(parts[0])]) if int(parts[0]) in self.tasks else (404, {"detail": "No Task"})
        after, since = 0, ""
        for item in json.loads(query["query"])["filters"]["items"]:
            if item["filter"] == "filter:tasks:id":
                after = item["value"]
            elif item["filter"] == "filter:tasks:updated_at":
                since = item["value"]
        found = [t for number, t in sorted(self.tasks.items()) if number > after and t["updated_at"] > since]
        found = found[: int(query["page_size"])]
        if "include" in query:
            found = [_including(task, query["include"].split(",")) for task in found]
        return 200, {"tasks": found}

    def _delete_tasks(self, parts: list[str], query: dict[str, str], body: Any) -> tuple[int, Any]:
        return (204, None) if self.tasks.pop(int(parts[0]), None) else (404, {"detail": "No Task matches"})

    def _post_tasks(self, parts: list[str], query: dict[str, str], body: Any) -> tuple[int, Any]:
        task, number = self.tasks.get(int(parts[0])), max(self.annotations(), default=0) + 1
        if task is None:
            return 404, {"detail": "No Task matches"}
        made = {"id": number, "was_cancelled": False, "completed_by": 1, **body, "updated_at": self._now()}
        task["annotations"].append(made)
        task["updated_at"] = self._now()
        return 201, made

    def _patch_annotations(self, parts: list[str], query: dict[str, str], body: Any) -> tuple[int, Any]:
        task, annotation = self.annotations()[int(parts[0])]
        annotation |= {**body, "updated_at": self._now()}
        task["updated_at"] = self._now()
        return 200, annotation

    def _delete_annotations(self, parts: list[str], query: dict[str, str], body: Any) -> tuple[int, Any]:
        task, annotation = self.annotations()[int(parts[0])]
        task["annotations"].remove(annotation)
        task["updated_at"] = self._now()
        return 204, None

    def _new_task(self, task: dict[str, Any]) -> int:
        number = max(self.tasks, default=0) + 1
        self.tasks[number] = {"id": number, "meta": {}, "annotations": [], **task, "updated_at": self._now()}
        return number

    def _now(self) -> str:
        """Return the time; never the same one twice."""
        self._moment = max(self._moment + 1, round(datetime.now(UTC).timestamp() * 1e6))
        return datetime.fromtimestamp(self._moment / 1e6, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _including(task: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """Return *task* with those fields alone, its annotations likewise."""
    kept = {name: value for name, value in task.items() if name in names}
    return {**kept, "annotations": [{n: v for n, v in each.items() if n in names} for each in task["annotations"]]}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet: two would wait for each other
    server: _Server

    def _handle(self) -> None:
        split = urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        query = {name: values[0] for name, values in parse_qs(split.query).items()}
        fake, call = self.server.fake, f"{self.command} {split.path}"
        fault = next((each for each in fake.faults if call.startswith(each[0])), None)
        if fault is not None:
            fake.faults.remove(fault)
            happens = fault[1]()
            if happens == "lost":  # done, but nobody is told
                fake.answer(self.command, split.path, query, body, self.headers.get("Authorization", ""))
                self.close_connection = True
                return
            if happens == "dropped":
                self.close_connection = True
                return
            self._send(happens, {"detail": "fault"})
            return
        self._send(*fake.answer(self.command, split.path, query, body, self.headers.get("Authorization", "")))

    do_GET = do_POST = do_PATCH = do_DELETE = _handle  # noqa: N815

    def _send(self, status: int, answer: Any) -> None:
        data = b"" if answer is None else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Content-Type", "application/json")
        if status == 429:
            self.send_header("Retry-After", "1")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    fake: FakeLabelStudio

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: a client that was killed is no news."""


@contextmanager
def serving() -> Iterator[tuple[FakeLabelStudio, str]]:
    """Give a fake and its address."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.fake = FakeLabelStudio()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server.fake, f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
