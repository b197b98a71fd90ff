"""The warm start: a file that the model learns before the first event.

Every worker has to begin with the same file: its SHA-256 is the first record of ``training``, and a worker with another
file stops. A file of labelled rows is data. A pickle is a program: it is opened only if the configuration has its
digest, and if nobody but this user or root can have written it.
"""

from __future__ import annotations

import hashlib
import math
import os
import pickle
import stat
from collections.abc import Iterator, Mapping
from typing import Any

from river import base

from streamal.config import Config
from streamal.core.codec.features import checked
from streamal.core.codec.wire_rules import WireRules
from streamal.core.labels import class_name
from streamal.core.model.rehearsal import WeightedExample
from streamal.core.records import FeatureValue, Refusal
from streamal.core.schema import Schema
from streamal.core.vectors import vector_length
from streamal.errors import ConfigError
from streamal.recordings.reading import is_blank, raw_rows

__all__ = ["read_examples", "sha256_of", "unpickle"]

_TRUTHS: Mapping[str, bool] = {"true": True, "1": True, "false": False, "0": False}
_CHUNK = 1 << 20
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


def read_examples(config: Config, rules: WireRules, schema: Schema | None) -> Iterator[WeightedExample]:
    """Yield the labelled rows of ``model.warm_start``: the columns of *schema*, within the bounds of *rules*.

    A blank is a missing feature; a row without a label, and a column outside the schema, are left out.

    Raises:
        ConfigError: the file cannot be read, or the row that is named does not fit the configuration.
    """
    path, column = config.model.warm_start, config.model.warm_start_label
    assert path is not None, "there is a warm start"
    rows = list(raw_rows(str(path), column))
    columns = list(dict.fromkeys(name for row in rows for name in row))
    if column not in columns:
        raise ConfigError(f"model.warm_start_label: {path} has no column {column!r}, but {', '.join(columns[:50])}")
    if schema is None and not config.features.open:
        declared = ", ".join(f'{_key(name)} = "number"' for name in columns[:50] if name != column)
        raise ConfigError(
            f"model.warm_start: which of the columns of {path} are features, and of which types? "
            f"Set features.declared = {{ {declared} }}, or what they are"
        )
    found = 0
    for number, row in enumerate(rows, 1):
        if is_blank(row.get(column)):
            continue
        where = f"model.warm_start: {path}, row {number}"
        present = {name: value for name, value in row.items() if name != column and not is_blank(value)}
        features = _features(present, {} if schema is None else schema.kinds, where, open_=config.features.open)
        fits = checked(None, None, features, rules, schema)
        if isinstance(fits, Refusal):
            raise ConfigError(f"{where}: {fits.detail}")
        found += 1
        yield WeightedExample((schema or _ANY).select(fits), class_name(row[column]))
    if not found:
        raise ConfigError(f"model.warm_start: {path}: no row has a label in column {column!r}")


def _features(row: Mapping[str, Any], kinds: Mapping[str, str], where: str, *, open_: bool) -> dict[str, Any]:
    features: dict[str, Any] = {}
    for name, value in row.items():
        kind = kinds.get(name)
        if kind is not None:
            features[name] = _typed(value, kind, f"{where}: column {name!r}")
        elif open_:
            features[name] = value if isinstance(value, float | str | bool | list) else float(value)
    return features


def _typed(value: Any, kind: str, where: str) -> FeatureValue:
    """Return *value*, which a CSV file has as text, as a feature of *kind*."""
    if kind == "boolean":
        truth = value if isinstance(value, bool) else _TRUTHS.get(str(value).strip().lower())
        if truth is None:
            raise ConfigError(f"{where} is {value!r}, not true or false")
        return truth
    length = vector_length(kind)
    if length is not None:
        if not isinstance(value, list) or len(value) != length:
            raise ConfigError(f"{where} is {str(value)[:50]!r}, not a list of {length} numbers")
        return [_typed(each, "number", where) for each in value]  # type: ignore[misc]
    if kind != "number":
        return str(value)
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise ConfigError(f"{where} is {value!r}, not a number")
    return number


def _require_digest(config: Config, digest: str) -> None:
    wanted, path = config.model.warm_start_sha256, config.model.warm_start
    if wanted not in (None, digest):
        raise ConfigError(f"model.warm_start: {path} has the SHA-256 {digest}, not model.warm_start_sha256 = {wanted}")


def _key(name: str) -> str:
    return name if name.replace("_", "").replace("-", "").isalnum() and name.isascii() else f'"{name}"'
