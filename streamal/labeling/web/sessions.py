"""Who may come in: tokens with a role, signed sessions, and a limit on wrong tokens.

A session is a cookie with an id, a name and an end, signed with that person's own token. It outlives a restart of the
page; it ends after its time, when the token is changed, or at the logout (the page forgets logouts when it restarts). A
second signature, the CSRF token, goes with every request of the page's own script.
Without any tokens there is no login; the page then listens on loopback only.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["SESSION_S", "Person", "Sessions", "Throttle"]

SESSION_S = 12 * 3_600
"""The length of a session: a working day."""
_ADDRESSES_MAX = 1_000
_ENDED_MAX = 10_000
"""Sessions that were ended by a logout and are remembered until they would be over."""


class Person(NamedTuple):
    """Somebody who may come in; *admin* also sees the status page and may answer for others."""

    name: str
    admin: bool


class Sessions:
    """Knows the tokens and signs the sessions. No method returns a token."""

    def __init__(self, tokens: Mapping[str, str], admins: tuple[str, ...]) -> None:
        """Take name -> token; without any, everybody who reaches the page is an admin."""
        self._tokens, self._admins = dict(tokens), frozenset(admins)
        self._own_key = secrets.token_hex(16)
        self._ended: dict[str, int] = {}

    @property
    def open_to_all(self) -> bool:
        """Whether there is no login."""
        return not self._tokens

    def person_of_token(self, token: str) -> Person | None:
        """Return whose *token* this is; comparing with every token takes the same time whichever it is."""
        digest, found = _digest(token), None
        for name, known in self._tokens.items():
            if hmac.compare_digest(digest, _digest(known)):
                found = name
        return None if found is None else self._person(found)

    def new_cookie(self, name: str, now: float) -> str:
        """Return the cookie of a session of *name* that begins *now*, in seconds since the epoch."""
        body = f"{int(now) + SESSION_S}.{secrets.token_hex(8)}.{name.encode().hex()}"
        return f"{body}.{self._sign(name, 'session', body)}"

    def person_of_cookie(self, cookie: str, now: float) -> Person | None:
        """Return whose session *cookie* is, None if the session is over or forged."""
        body, _, signature = cookie.rpartition(".")
        try:
            until, session, hexadecimal = body.split(".")
            name, over = bytes.fromhex(hexadecimal).decode(), int(until) < now or session in self._ended
        except ValueError:
            return None
        if not self.open_to_all and name not in self._tokens:
            return None
        good = hmac.compare_digest(signature.encode(), self._sign(name, "session", body).encode())
        return self._person(name) if good and not over else None

    def end(self, cookie: str, now: float) -> None:
        """End the session that *cookie* is, if it is one."""
        if self.person_of_cookie(cookie, now) is None:
            return
        until, session, *_ = cookie.split(".")
        self._ended = {each: end for each, end in self._ended.items() if end >= now}
        if len(self._ended) >= _ENDED_MAX:
            del self._ended[next(iter(self._ended))]
        self._ended[session] = int(until)

    def csrf_token(self, cookie: str, name: str) -> str:
        """Return the token that the page of this session sends with every request that changes something."""
        return self._sign(name, "csrf", cookie)

    def _person(self, name: str) -> Person:
        return Person(name, self.open_to_all or name in self._admins)

    def _sign(self, name: str, purpose: str, text: str) -> str:
        key = self._own_key if self.open_to_all else self._tokens[name]
        return hmac.new(key.encode(), f"{purpose}|{text}".encode(), hashlib.sha256).hexdigest()


class Throttle:
    """Allows *failures_max* wrong tokens of an address in *window_s* seconds; then that address has to wait."""

    def __init__(self, failures_max: int = 5, window_s: float = 60.0) -> None:
        """Begin without failures."""
        self._failures_max, self._window_s = failures_max, window_s
        self._failures: dict[str, list[float]] = {}

    def wait_s(self, address: str, now: float) -> float:
        """Return how long *address* has to wait, 0.0 if not at all."""
        times = [at for at in self._failures.get(address, ()) if at > now - self._window_s]
        if len(times) < self._failures_max:
            return 0.0
        return times[0] + self._window_s - now

    def add_failure(self, address: str, now: float) -> None:
        """Note a wrong token."""
        times = [at for at in self._failures.pop(address, ()) if at > now - self._window_s]
        self._failures[address] = [*times[-self._failures_max :], now]
        if len(self._failures) > _ADDRESSES_MAX:
            del self._failures[next(iter(self._failures))]


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
