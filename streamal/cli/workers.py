"""Processes: ending on a signal, and several workers under one supervisor (``streamal run --workers N``).

The supervisor consumes nothing and knows nothing about the topics. It starts the same command once for each
worker, with settings of its own, and starts it again when it dies. Each worker holds the reading end of a pipe that
the supervisor never writes to: when the pipe ends, the supervisor is dead, whatever has killed it, and the worker
ends too.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from streamal.bootstrap.transports import TRANSPORTS
from streamal.config import Config
from streamal.daemon.exporter import Logger
from streamal.errors import ConfigError

__all__ = ["END_S", "RestartDelays", "end_with_supervisor", "stop_on_signals", "supervise", "worker_settings"]

_ENDING = (signal.SIGTERM, signal.SIGINT)
_TICK_S = 0.1
END_S = 8.0
"""A worker ends so long after the first signal: container engines send SIGKILL after ten seconds."""

_KILL_S = 9.0
_GRACE_S = 30.0  # for the step at hand and a snapshot, once the supervisor is dead


@dataclass(frozen=True, slots=True)
class RestartDelays:
    """How long the supervisor waits before it starts a dead worker again, in seconds.

    Attributes:
        first_s: after the first death; it doubles with each further one.
        most_s: at most.
        good_s: after a worker has lived for so long, its next death counts as the first.
    """

    first_s: float = 0.5
    most_s: float = 30.0
    good_s: float = 60.0


@dataclass(slots=True)
class _Worker:
    instance: str
    command: Sequence[str]
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    due_at: float = 0.0
    deaths: int = 0


def worker_settings(config: Config, count: int) -> dict[str, list[str]]:
    """Return the settings that differ among *count* workers of one host: instance -> ``section.key=value``.

    The instance is `transport.instance` or the host's name, and a number: the same again after a restart.

    Raises:
        ConfigError: the topics are in one SQLite file, or there are not so many ports.
    """
    if not TRANSPORTS[config.transport.kind].many_workers:
        raise ConfigError('--workers: one SQLite file has one worker; more workers need transport.kind = "kafka"')
    host = re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())[:190]
    port, directory = config.server.port, config.snapshots.directory
    if port + count - 1 > 65_535:
        raise ConfigError(f"server.port = {port}: {count} workers need as many ports from there on")
    found = {}
    for number in range(count):
        instance = f"{config.transport.instance or host}-{number}"
        found[instance] = [f"transport.instance={_toml_text(instance)}", f"server.port={port and port + number}"]
        if directory is not None:
            found[instance].append(f"snapshots.directory={_toml_text(str(directory / instance))}")
    return found


def supervise(commands: Mapping[str, Sequence[str]], log: Logger, patience: RestartDelays | None = None) -> int:
    """Keep all *commands* (by instance) running until SIGTERM or SIGINT, and return the exit code.

    0: all have ended in good order. 1: one has not. 2: one has ended with 2, which no restart can mend, so the others
    were stopped. A second signal ends the supervisor at once, and with it the workers.
    """
    patience, workers = patience or RestartDelays(), [_Worker(*each) for each in commands.items()]
    reading, writing = os.pipe()  # neither is inherited but as somebody's standard input
    stopping = threading.Event()
    stop_on_signals(stopping.set)
    try:
        while not stopping.is_set():
            for worker in workers:
                if _start_or_check(worker, reading, log, patience) == ConfigError.exit_code:
                    stopping.set()
            time.sleep(_TICK_S)
        running = [worker for worker in workers if worker.process is not None]
        log.info("stopping", workers=[worker.instance for worker in running])
        codes = _end_all(running)
    finally:
        os.close(writing)
        os.close(reading)
    log.info("stopped", codes=codes)
    if ConfigError.exit_code in codes.values():
        return ConfigError.exit_code
    return 0 if set(codes.values()) <= {0, -signal.SIGTERM} else 1  # SIGTERM: while it was starting


def stop_on_signals(stop: Callable[[], object], within_s: float | None = None) -> None:
    """Call *stop* on the first SIGTERM or SIGINT; a second one, even another, ends the process at once.

    With *within_s* the process ends so long after the first one, whatever it is doing then: a library may loop, or wait
    in C, where no signal is handled. What was not committed is done again after the next start.
    """
    if within_s is not None:
        _end_within(within_s)

    def first(_: int, __: object) -> None:
        stop()
        for number in _ENDING:
            signal.signal(number, signal.SIG_DFL)

    for number in _ENDING:
        signal.signal(number, first)


def _end_within(seconds: float) -> None:
    """End this process *seconds* after its first SIGTERM or SIGINT, by a thread that needs no handler to have run."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)  # the interpreter writes the signal's number there at once

    def watch() -> None:
        while os.read(reading, 1)[0] not in _ENDING:
            pass
        time.sleep(seconds)
        os.write(2, f"streamal: still busy {seconds:g} s after the signal: ends now; nothing is lost\n".encode())
        os._exit(1)

    threading.Thread(target=watch, name="deadline", daemon=True).start()


def end_with_supervisor() -> None:
    """End this process, in good order, as soon as its supervisor dies, and standard input with it."""

    def watch() -> None:
        while os.read(0, 1):
            pass
        while True:
            os.kill(os.getpid(), signal.SIGTERM)  # the second one does not ask
            time.sleep(_GRACE_S)

    threading.Thread(target=watch, name="supervisor", daemon=True).start()


def _start_or_check(worker: _Worker, reading: int, log: Logger, patience: RestartDelays) -> int | None:
    """Start *worker* if it is due; return its exit code if it has just ended."""
    now = time.monotonic()
    if worker.process is None:
        if now >= worker.due_at:
            # a group of its own: Ctrl-C on the terminal is for the supervisor alone
            worker.process = subprocess.Popen(worker.command, stdin=reading, process_group=0)  # noqa: S603
            worker.started_at = now
            log.info("worker_started", instance=worker.instance, pid=worker.process.pid)
        return None
    code = worker.process.poll()
    if code is None or code == ConfigError.exit_code:
        return code
    worker.deaths = 1 if now - worker.started_at >= patience.good_s else worker.deaths + 1
    pause_s = min(patience.most_s, patience.first_s * 2.0 ** min(worker.deaths - 1, 32))
    worker.process, worker.due_at = None, now + pause_s
    log.warning("worker_ended", instance=worker.instance, code=code, again_in_s=pause_s)
    return code


def _end_all(workers: Sequence[_Worker]) -> dict[str, int]:
    """Ask all *workers* to end, kill those that have not after `_KILL_S`, and return the exit codes."""
    processes = {worker.instance: worker.process for worker in workers if worker.process is not None}
    for process in processes.values():
        process.terminate()
    deadline, codes = time.monotonic() + _KILL_S, {}
    for instance, process in processes.items():
        try:
            codes[instance] = process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            codes[instance] = process.wait()
    return codes


def _toml_text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)
