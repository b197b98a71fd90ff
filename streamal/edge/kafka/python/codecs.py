"""Decoders of compressed batches for kafka-python, with a bound on what they inflate to.

K16, a decompression bomb: kafka-python inflates a batch whole, whatever comes out. 300 kB of gzip may be 300 MB of
zeros (F59). The decoders here stop as soon as the bound is passed, before they take memory for more.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import lz4.frame
import snappy
import zstandard
from kafka import errors
from kafka.record import default_records, legacy_records

__all__ = ["DECODERS", "InflatedTooLargeError", "limit_inflating"]

_CHUNK_BYTES = 262_144
_XERIAL = b"\x82SNAPPY\0"
_XERIAL_HEADER_BYTES = 16

Payload = bytes | memoryview


class InflatedTooLargeError(errors.KafkaError):  # type: ignore[misc]
    """A batch inflates to more than it may."""


def limit_inflating(bytes_max: int) -> None:
    """Let kafka-python inflate no batch to more than *bytes_max*.

    The library's modules call the decoders by these names and know no consumer there, so the bound holds for all
    consumers of the process.
    """
    for module in (default_records, legacy_records):
        for codec, decode in DECODERS.items():
            if hasattr(module, f"{codec}_decode"):
                setattr(module, f"{codec}_decode", _bind(codec, decode, bytes_max))


def _bind(codec: str, decode: Callable[[Payload, int], Iterator[bytes]], bytes_max: int) -> Callable[[Payload], bytes]:
    """Return kafka-python's ``<codec>_decode``."""

    def decode_all(payload: Payload) -> bytes:
        chunks, total = [], 0
        for chunk in decode(payload, bytes_max):
            total += len(chunk)
            if total > bytes_max:
                raise _too_large(codec, payload, bytes_max)
            chunks.append(chunk)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    return decode_all


def _too_large(codec: str, payload: Payload, bytes_max: int) -> InflatedTooLargeError:
    return InflatedTooLargeError(f"{len(payload):,} bytes of {codec} inflate to more than {bytes_max:,} bytes")


def _inflate_gzip(payload: Payload, _: int) -> Iterator[bytes]:
    """Yield what all members of a gzip stream hold, in chunks."""
    left: Any = payload
    while left:
        decoder = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        while not decoder.eof:
            chunk = decoder.decompress(left, _CHUNK_BYTES)
            if not left and not chunk:  # without input there may still be output
                raise zlib.error("the stream ends too early")
            yield chunk
            left = decoder.unconsumed_tail
        left = decoder.unused_data


def _inflate_lz4(payload: Payload, _: int) -> Iterator[bytes]:
    """Yield what all frames of LZ4 hold, in chunks."""
    left = bytes(payload)
    while left:
        decoder = lz4.frame.LZ4FrameDecompressor()
        while not decoder.eof:
            if decoder.needs_input and not left:
                raise RuntimeError("the frame ends too early")
            yield decoder.decompress(left, max_length=_CHUNK_BYTES)
            left = b""
        left = decoder.unused_data or b""


def _inflate_zstd(payload: Payload, _: int) -> Iterator[bytes]:
    """Yield what all frames of Zstandard hold, in chunks."""
    with zstandard.ZstdDecompressor().stream_reader(io.BytesIO(payload), read_across_frames=True) as reader:
        while chunk := reader.read(_CHUNK_BYTES):
            yield chunk


def _inflate_snappy(payload: Payload, bytes_max: int) -> Iterator[bytes]:
    """Yield what each block of Snappy holds; a block says at its beginning how long that is."""
    data = bytes(payload)
    if not data.startswith(_XERIAL):
        yield _inflate_block(data, payload, bytes_max)
        return
    at = _XERIAL_HEADER_BYTES
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        yield _inflate_block(data[at + 4 : at + 4 + size], payload, bytes_max)
        at += 4 + size


def _inflate_block(block: bytes, payload: Payload, bytes_max: int) -> bytes:
    size = 0
    for place, byte in enumerate(block[:5]):
        size |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            break
    if size > bytes_max:
        raise _too_large("snappy", payload, bytes_max)
    return bytes(snappy.uncompress(block))


DECODERS: dict[str, Callable[[Payload, int], Iterator[bytes]]] = {
    "gzip": _inflate_gzip,
    "snappy": _inflate_snappy,
    "lz4": _inflate_lz4,
    "zstd": _inflate_zstd,
}
"""Codec -> a function that yields what a payload inflates to, in chunks that are much smaller than a bomb."""
