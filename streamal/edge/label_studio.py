"""A client of Label Studio's REST API, over httpx: projects, tasks, both kinds of tokens. It decides nothing.

How version 1.23 behaves: ``ordering`` and ``only_annotated`` of ``GET /api/tasks/`` are ignored, only ``query`` (the
data manager's filters, JSON) selects and sorts; a page beyond the last one is a 404. Tasks are read by growing id
rather than by page numbers: a task that is deleted meanwhile would shift the pages.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import httpx

from streamal.edge.retries import retry
from streamal.errors import ConfigError, ServiceUnavailable

__all__ = ["LabelStudio"]

_ATTEMPTS_MAX = 3
"""Of a call that may be repeated; after that the bridge goes on trying, at its own pace."""
_PAUSE_S = 0.2
_RETRY_AFTER_MAX_S = 60.0
_FIELDS = "id,data,meta,annotations,updated_at,result,was_cancelled,lead_time,completed_by"
"""The fields of a task and of its annotations: ``include`` filters both."""
_TASKS = "tasks:"


class LabelStudio:
    """A server, as one user sees it. One thread uses it.

    Every method raises `ServiceUnavailable` if the server does not answer (or says 429 or 5xx), and `ConfigError` if
    it refuses the token or the call.
    """

    def __init__(self, url: str, token: str, timeout_s: float = 30.0) -> None:
        """Connect to nothing yet. *token* is a legacy token, or a personal access token (a JWT, which is refreshed)."""
        self._client = httpx.Client(base_url=url.rstrip("/"), timeout=timeout_s, headers={"Accept": "application/json"})
        self._url, self._token, self._personal = url, token, token.count(".") == 2
        self._authorization = "" if self._personal else f"Token {token}"

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        self._client.close()

    def projects(self, title: str) -> Sequence[Mapping[str, Any]]:
        """Return the projects of exactly this *title*."""
        found = self._call("GET", "/api/projects/", params={"title": title, "page_size": 100})
        return [project for project in found.get("results", ()) if project.get("title") == title]

    def project(self, number: int) -> Mapping[str, Any]:
        """Return a project, with its ``parsed_label_config``."""
        found: Mapping[str, Any] = self._call("GET", f"/api/projects/{number}/")
        return found

    def create_project(self, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        """Make a project and return it."""
        made: Mapping[str, Any] = self._call("POST", "/api/projects/", body=fields)
        return made

    def change_project(self, number: int, fields: Mapping[str, Any]) -> None:
        """Set *fields* of a project."""
        self._call("PATCH", f"/api/projects/{number}/", body=fields)

    def tasks(self, project: int, after: int, since: str | None, count: int) -> Sequence[Mapping[str, Any]]:
        """Return up to *count* tasks with ids beyond *after*, by id; only those changed after *since* (ISO 8601)."""
        items = [{"filter": "filter:tasks:id", "operator": "greater", "type": "Number", "value": after}]
        if since is not None:
            changed = {"operator": "greater", "type": "Datetime", "value": since}
            items.append({"filter": f"filter:{_TASKS}updated_at", **changed})
        query = {"filters": {"conjunction": "and", "items": items}, "ordering": [f"{_TASKS}id"]}
        params = {"project": project, "fields": "all", "include": _FIELDS, "page_size": count}
        found = self._call("GET", "/api/tasks/", params={**params, "query": json.dumps(query)})
        tasks: Sequence[Mapping[str, Any]] = found["tasks"]
        return tasks

    def add_tasks(self, project: int, tasks: Sequence[Mapping[str, Any]]) -> Sequence[int]:
        """Import *tasks* and return their ids; after a `ServiceUnavailable` they may be there all the same."""
        path = f"/api/projects/{project}/import"
        made: Sequence[int] = self._call("POST", path, params={"return_task_ids": "true"}, body=tasks)["task_ids"]
        return made

    def remove_task(self, number: int) -> None:
        """Delete a task; one that is gone already is no error."""
        self._call("DELETE", f"/api/tasks/{number}/", missing=True)

    def _call(
        self,
        method: str,
        path: str,
        params: Mapping[str, Any] | None = None,
        body: object = None,
        *,
        missing: bool = False,
    ) -> Any:
        """Return the answer's JSON; calls that change nothing when repeated are repeated a few times."""
        answer = retry(
            lambda: self._send_authorized(method, path, params, body),
            lambda error: isinstance(error, ServiceUnavailable),
            attempts=1 if method == "POST" else _ATTEMPTS_MAX,
            wait_s=_PAUSE_S,
        )
        return self._read(answer, method, path, missing=missing)

    def _send_authorized(
        self, method: str, path: str, params: Mapping[str, Any] | None, body: object
    ) -> httpx.Response:
        """Send with the token; a personal one gives access for some minutes, after which it is refreshed."""
        fresh = self._personal and not self._authorization
        if fresh:
            self._refresh()
        answer = self._send(method, path, params, body)
        if answer.status_code == httpx.codes.UNAUTHORIZED and self._personal and not fresh:
            self._refresh()
            answer = self._send(method, path, params, body)
        return answer

    def _refresh(self) -> None:
        self._authorization = ""
        answer = self._send("POST", "/api/token/refresh/", None, {"refresh": self._token})
        self._authorization = f"Bearer {self._read(answer, 'POST', '/api/token/refresh/')['access']}"

    def _send(self, method: str, path: str, params: Mapping[str, Any] | None, body: object) -> httpx.Response:
        headers = {"Authorization": self._authorization} if self._authorization else {}
        try:
            answer = self._client.request(method, path, params=params, json=body, headers=headers)
        except httpx.HTTPError as error:
            raise ServiceUnavailable(f"bridge.url {self._url}: {type(error).__name__}: {error}") from error
        if answer.status_code == httpx.codes.TOO_MANY_REQUESTS or answer.status_code >= 500:
            pause = answer.headers.get("Retry-After", "")
            after = min(_RETRY_AFTER_MAX_S, float(pause)) if pause.isdecimal() else 0.0
            raise ServiceUnavailable(f"bridge.url {self._url}: {method} {path} answered {answer.status_code}", after)
        return answer

    def _read(self, answer: httpx.Response, method: str, path: str, *, missing: bool = False) -> Any:
        code = answer.status_code
        if code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            raise ConfigError(
                f"bridge.url {self._url}: the token is refused ({code}); put a valid one into STREAMAL_BRIDGE__TOKEN "
                "(Label Studio: Account & Settings), either kind; a legacy token must be allowed by the organisation"
            )
        if missing and code == httpx.codes.NOT_FOUND:
            return None
        if answer.is_error or answer.is_redirect:
            raise ConfigError(f"bridge.url {self._url}: {method} {path} answered {code}: {answer.text[:500]}")
        if not answer.content:
            return None
        try:
            return answer.json()
        except ValueError as error:
            raise ConfigError(
                f"bridge.url {self._url}: {method} {path} answered no JSON: is it Label Studio"
            ) from error
