"""The warm start: a file that the model learns before the first event.

Every worker has to begin with the same file: its SHA-256 is the first record of ``training``, and a worker with another
file stops. A file of labelled rows is data. A pickle is a program: it is opened only if the configuration has its
digest, and if nobody but this user or root can have written it.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import stat
from collections.abc import Iterator

from river import base

from streamal.bootstrap.rules import reading_rules
from streamal.config import Config
from streamal.core.model.rehearsal import WeightedExample
from streamal.core.schema import Schema
from streamal.errors import ConfigError
from streamal.recordings.reading import Stream, read_stream

__all__ = ["read_examples", "read_warm_start", "sha256_of", "unpickle"]

_CHUNK = 1 << 20
_OPTIONS = ("--delimiter", "--encoding", "--flatten")
"""What a command that reads recordings can be told, and a warm start cannot."""
_ANY = Schema({}, open=True)


def sha256_of(config: Config) -> str:
    """Return the SHA-256 of the file that all workers begin with, in hex; "" without a warm start.

    Raises:
        ConfigError: it cannot be read, or is not the one that ``model.warm_start_sha256`` names.
    """
    path = config.model.warm_start
    if path is None:
        return ""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while part := file.read(_CHUNK):
                digest.update(part)
    except OSError as error:
        raise ConfigError(f"model.warm_start: {path}: {error.strerror or error}") from error
    _require_digest(config, digest.hexdigest())
    return digest.hexdigest()


def unpickle(config: Config) -> base.Classifier:
    """Return the classifier in the pickle ``model.warm_start``; that runs whatever code the pickle holds.

    Raises:
        ConfigError: it was not asked for by its digest, others may have written it, or it holds no classifier.
    """
    path = config.model.warm_start
    assert path is not None, "there is a warm start"
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ConfigError(f"model.warm_start: {path} is not a regular file")
            if status.st_uid not in {os.geteuid(), 0} or status.st_mode & 0o022:
                raise ConfigError(
                    f"model.warm_start: another user owns {path} or may write to it, and a pickle runs code: "
                    "`chown` it to the user of the daemon, and `chmod go-w` it"
                )
            data = file.read()
    except OSError as error:
        raise ConfigError(f"model.warm_start: {path}: {error.strerror or error}") from error
    digest = hashlib.sha256(data).hexdigest()
    if config.model.warm_start_sha256 is None:
        raise ConfigError(
            f"model.warm_start: {path} is a pickle, which runs whatever code it holds: if you trust it, "
            f'say so by model.warm_start_sha256 = "{digest}"'
        )
    _require_digest(config, digest)
    try:
        estimator = pickle.loads(data)
    except Exception as error:
        raise ConfigError(f"model.warm_start: {path} cannot be unpickled: {type(error).__name__}: {error}") from error
    if not isinstance(estimator, base.Estimator):
        raise ConfigError(f"model.warm_start: {path} holds a {type(estimator).__name__}, not a classifier of River")
    return estimator  # type: ignore[return-value]  # a pipeline is one by its last step, which is looked at later


def read_examples(config: Config, schema: Schema | None) -> Iterator[WeightedExample]:
    """Yield the labelled rows of ``model.warm_start``: the columns of *schema*, within the bounds of an event.

    Raises:
        ConfigError: see `read_warm_start`.
    """
    for row in read_warm_start(config).rows:
        yield WeightedExample((schema or _ANY).select(row.features), row.label)


def read_warm_start(config: Config) -> Stream:
    """Return the rows of ``model.warm_start``, and the account of what was left out of them.

    A blank is a missing feature; a row without a label, and a column outside the schema, are left out. A row that a
    live daemon would refuse is refused.

    Raises:
        ConfigError: the file cannot be read, no row is left, or nobody says which columns are features.
    """
    path, column = config.model.warm_start, config.model.warm_start_label
    assert path is not None, "there is a warm start"
    try:
        stream = read_stream(path, column, rules=reading_rules(config))
    except ConfigError as error:
        hint = "; a warm start has no such options: mend the file, or write it as JSON lines in UTF-8"
        hint = hint if any(option in str(error) for option in _OPTIONS) else ""
        raise ConfigError(f"model.warm_start: {error}{hint} (model.warm_start_label = {column!r})") from error
    if not config.features.declared and not config.features.open:
        declared = ", ".join(f'{_key(name)} = "{kind}"' for name, kind in list(stream.kinds.items())[:50])
        raise ConfigError(
            f"model.warm_start: which of the columns of {path} are features, and of which types? "
            f"Set features.declared = {{ {declared} }}, or what they are"
        )
    return stream


def _require_digest(config: Config, digest: str) -> None:
    wanted, path = config.model.warm_start_sha256, config.model.warm_start
    if wanted not in (None, digest):
        raise ConfigError(f"model.warm_start: {path} has the SHA-256 {digest}, not model.warm_start_sha256 = {wanted}")


def _key(name: str) -> str:
    return name if name.replace("_", "").replace("-", "").isalnum() and name.isascii() else f'"{name}"'
