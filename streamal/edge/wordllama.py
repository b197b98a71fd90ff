"""Embeddings without a network: the model of 256 numbers that the wheel of wordllama carries (extra ``embeddings``)."""

from __future__ import annotations

from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from streamal import INSTALL
from streamal.errors import ConfigError

__all__ = ["embed"]


def embed(texts: list[str]) -> Any:
    """Return (texts x 256) the mean of the vectors of each text's tokens, scaled to the length 1.

    Raises:
        ConfigError: wordllama is not installed.
    """
    return _model().embed(texts, norm=True)


@lru_cache(maxsize=1)
def _model() -> Any:
    try:
        import wordllama  # noqa: PLC0415
    except ImportError as error:
        raise ConfigError(f"embeddings need wordllama: {INSTALL.format(extra='embeddings')}") from error
    # wordllama looks for the tokenizer of its own wheel only in a cache directory: its package is one
    directory = Path(str(wordllama.__file__)).parent
    embed.version = version("wordllama")  # type: ignore[attr-defined]
    return wordllama.WordLlama.load(cache_dir=directory, disable_download=True)
