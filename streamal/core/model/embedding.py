"""Embedding: the text of a feature becomes a vector before the model sees it, by a function of the user's.

A text has one vector for ever: the function is a pure one, and its results are kept by the digest of the text only to
save time. Topics carry the text alone. So annotators read it, and whoever folds the log embeds it again.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from streamal.core.records import FeatureValue
from streamal.core.vectors import Array, ModelFeatures, vector_kind
from streamal.errors import ConfigError, StreamalError

__all__ = ["Embedding", "EmbeddingRules", "load_embedding"]

_PROBES = ("the quick brown fox", "jumps over the lazy dog, and then some more")
_KEPT_MIN = 10_000
"""Vectors that are kept whatever they take: more than a step has events."""
_SHORTHANDS: Mapping[str, str] = {"wordllama": "streamal.edge.wordllama:embed"}
"""Functions that come with streamal, by their short names."""


@dataclass(frozen=True, slots=True)
class EmbeddingRules:
    """Which features are embedded, and how.

    Attributes:
        functions: (name of the feature, "package.module:function") pairs.
        batch: the most texts in one call.
        cache_bytes: about how much memory the vectors that are kept may take.
        length_max: the most numbers in a vector.
    """

    functions: tuple[tuple[str, str], ...]
    batch: int = 256
    cache_bytes: int = 64_000_000
    length_max: int = 4_096


class Embedding:
    """The functions of `EmbeddingRules`, loaded, and the vectors of the last texts."""

    def __init__(self, rules: EmbeddingRules) -> None:
        """Load the functions.

        Raises:
            ConfigError: one cannot be loaded, or does not return one vector for each text.
        """
        self.rules = rules
        self._embedders = {name: _Embedder(name, spec, rules) for name, spec in rules.functions}

    def __reduce__(self) -> Any:
        """Return how a copy is made: by the rules; functions and kept vectors are those of the process."""
        return load_embedding, (self.rules,)

    def kinds(self, kinds: Mapping[str, str]) -> dict[str, str]:
        """Return *kinds* as the model meets them: an embedded text is a vector."""
        embedders = self._embedders
        return {
            name: vector_kind(embedders[name].length) if name in embedders else kind for name, kind in kinds.items()
        }

    def identities(self) -> dict[str, list[str]]:
        """Return what the fingerprint of a fold has to know of each function: name, version, probe."""
        return {name: each.identity for name, each in self._embedders.items()}

    def problems(self) -> list[str]:
        """Return what `check` refuses, as sentences."""
        return [problem for each in self._embedders.values() for problem in each.problems()]

    def prepare(self, events: Iterable[Mapping[str, FeatureValue]]) -> None:
        """Embed all texts of *events* in batches, for `apply` to find."""
        rows = list(events)
        for name, embedder in self._embedders.items():
            embedder.prepare([text for features in rows if isinstance(text := features.get(name), str)])

    def apply(self, features: ModelFeatures) -> ModelFeatures:
        """Return *features* with a vector in the place of each text that is embedded."""
        found = dict(features)
        for name, embedder in self._embedders.items():
            text = found.get(name)
            if isinstance(text, str):
                found[name] = embedder.vector(text)
        return found


class _Embedder:
    """One function and the vectors of its last texts, by digest: the most recently used ones."""

    def __init__(self, name: str, spec: str, rules: EmbeddingRules) -> None:
        self.where = f"features.embed.{name}"
        self._spec, self._rules = _SHORTHANDS.get(spec, spec), rules
        self._function = _load(self._spec, self.where)
        self._kept: dict[bytes, Array] = {}
        self.length = 0
        first = self._call(list(_PROBES))
        self.length = len(first[0])
        if not 1 <= self.length <= rules.length_max:
            raise ConfigError(
                f"{self.where}: vectors of {self.length} numbers; limits.vector_length is {rules.length_max}"
            )
        self._kept_max = max(_KEPT_MIN, rules.cache_bytes // (8 * self.length + 200))

    @cached_property
    def identity(self) -> list[str]:
        """The function's name, its version (its own, or its package's), and a digest of what it makes of a probe."""
        own = getattr(self._function, "version", None)
        package = self._spec.partition(".")[0].partition(":")[0]
        try:
            found = str(own) if own is not None else version(package)
        except PackageNotFoundError:
            found = ""
        return [self._spec, found, hashlib.sha256(self._call(list(_PROBES[:1]))[0].tobytes()).hexdigest()]

    def problems(self) -> list[str]:
        """Return what is wrong with the function, as sentences."""
        together = self._call(list(_PROBES))
        alone = [self._call([text])[0] for text in _PROBES]
        apart = max(float(np.abs(a - b).max()) for a, b in zip(together, alone, strict=True))
        if apart > 0.0 and self._rules.batch > 1:
            text = f"{self.where}: the vector of a text depends on the others of its call, by {apart:.1g}"
            return [f"{text}; so workers would hold different models: set features.embed_batch = 1"]
        if any((self._call([text])[0] != first).any() for text, first in zip(_PROBES, alone, strict=True)):
            return [f"{self.where}: a text has another vector in the next call"]
        return []

    def prepare(self, texts: Sequence[str]) -> None:
        """Embed those of *texts* that are not kept, in batches."""
        missing = {digest: text for text in texts if (digest := _digest(text)) not in self._kept and text.strip()}
        digests, batch = list(missing), self._rules.batch
        for first in range(0, len(digests), batch):
            some = digests[first : first + batch]
            for digest, vector in zip(some, self._call([missing[digest] for digest in some]), strict=True):
                self._keep(digest, vector)

    def vector(self, text: str) -> Array:
        """Return the vector of *text*: zeros for a blank one, and where the function gives no finite numbers."""
        if not text.strip():
            return np.zeros(self.length)
        digest = _digest(text)
        vector = self._kept.pop(digest, None)
        if vector is None:
            vector = self._call([text])[0]
        self._keep(digest, vector)
        return vector

    def _keep(self, digest: bytes, vector: Array) -> None:
        """Keep *vector* as the most recently used one."""
        self._kept[digest] = vector
        if len(self._kept) > self._kept_max:
            del self._kept[next(iter(self._kept))]

    def _call(self, texts: list[str]) -> Array:
        """Return (texts x numbers) the vectors of *texts*.

        Raises:
            StreamalError: the function raised, or returned something else; a ConfigError before it has ever worked.
        """
        kind = StreamalError if self.length else ConfigError
        try:
            with np.errstate(all="ignore"):  # what is not finite is dealt with below
                found = np.array(self._function(list(texts)), dtype=float)
        except Exception as error:
            raise kind(f"{self.where}: {self._spec} raised {type(error).__name__}: {error}") from error
        wanted = (len(texts), self.length or found.shape[-1] if found.ndim else 0)
        if found.shape != wanted:
            raise kind(f"{self.where}: {self._spec} returned an array of shape {found.shape} for {len(texts)} texts")
        found[~np.isfinite(found).all(axis=1)] = 0.0
        return found


@lru_cache(maxsize=8)
def load_embedding(rules: EmbeddingRules) -> Embedding:
    """Return the embedding by *rules*; all folds of the process share it, and the vectors that it keeps.

    Raises:
        ConfigError: see `Embedding`.
    """
    return Embedding(rules)


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16).digest()


def _load(spec: str, where: str) -> Callable[[list[str]], Any]:
    module_name, _, function_name = spec.partition(":")
    try:
        found = getattr(importlib.import_module(module_name), function_name)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"{where}: cannot load {spec!r}: {type(error).__name__}: {error}") from error
    if not callable(found):
        raise ConfigError(f"{where}: {spec!r} is no function")
    loaded: Callable[[list[str]], Any] = found
    return loaded
