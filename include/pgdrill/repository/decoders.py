"""Decoders of archived WAL, by the suffix of its object, in pieces of bounded size."""

from __future__ import annotations

import bz2
import lzma
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

import brotli
import lz4.frame

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PIECE_BYTES = 512 * 1024  # stays in a core's cache while it is decompressed, checked and written


class Undecodable(Exception):
    """The object is not what its suffix says, or not all of it."""


class Decoder(Protocol):
    """A decoder as in bz2, lzma, lz4 and zstd.

    ``eof``: the end mark and checksum were read; ``needs_input``: all was given out.
    """

    eof: bool
    needs_input: bool
    unused_data: bytes

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        """Return at most ``max_length`` bytes more."""


class _Plain:
    """The decoder for no compression. Its end is known from the size alone."""

    needs_input = False
    unused_data = b""

    def __init__(self) -> None:
        self._rest = memoryview(b"")

    @property
    def eof(self) -> bool:
        return not self._rest

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        if data:
            self._rest = memoryview(data)
        piece, self._rest = self._rest[:max_length], self._rest[max_length:]
        return bytes(piece)


class _Gzip:
    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        return self._inner.decompress(data or self._inner.unconsumed_tail, max_length)


class _Brotli:
    unused_data = b""

    def __init__(self) -> None:
        self._inner = brotli.Decompressor()

    @property
    def eof(self) -> bool:
        return bool(self._inner.is_finished())

    @property
    def needs_input(self) -> bool:
        return bool(self._inner.can_accept_more_data())

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        return bytes(self._inner.process(data, output_buffer_limit=max_length))


# Suffixes that wal-g and barman give, and what reads them. None: only the tool can.
DECODERS: dict[str, Callable[[], Any] | None] = {
    "": _Plain,
    ".lz4": lz4.frame.LZ4FrameDecompressor,
    ".zst": zstd.ZstdDecompressor,
    ".br": _Brotli,
    ".gz": _Gzip,
    ".bz2": bz2.BZ2Decompressor,
    ".xz": lzma.LZMADecompressor,
    ".lzma": None,
    ".snappy": None,
}
ERRORS = (
    RuntimeError,
    OSError,
    EOFError,
    ValueError,
    zlib.error,
    lzma.LZMAError,
    zstd.ZstdError,
    brotli.error,
)


def decoded(chunks: Iterable[bytes], suffix: str) -> Iterator[bytes]:
    """Yield the content of an object that arrives in chunks.

    The pieces have about :data:`PIECE_BYTES` at most.

    Raises :class:`Undecodable` for what is damaged, breaks off, or goes on after its end.
    """
    make = DECODERS[suffix]
    if make is None:
        raise Undecodable(f"{suffix} is read by the tool only")
    decoder: Decoder = make()
    for chunk in chunks:
        data = bytes(chunk)
        if suffix and decoder.eof and data:
            raise Undecodable("more data after its end")
        while True:
            try:
                piece = decoder.decompress(data, PIECE_BYTES)
            except ERRORS as error:
                raise Undecodable(f"{suffix.lstrip('.')}: {error}") from None
            data = b""
            if piece:
                yield piece
            if decoder.unused_data:
                raise Undecodable("more data after its end")
            # A full piece may be followed by another, even where all input was taken in.
            if decoder.eof or (decoder.needs_input and len(piece) < PIECE_BYTES):
                break
    if not decoder.eof:
        raise Undecodable("it breaks off before its end")


def aligned(pieces: Iterable[bytes], unit: int) -> Iterator[memoryview]:
    """Yield the same bytes in pieces that are multiples of ``unit``, the last one aside."""
    rest = memoryview(b"")
    for piece in pieces:
        joined = memoryview(bytes(rest) + piece if rest else piece)
        cut = len(joined) - len(joined) % unit
        if cut:
            yield joined[:cut]
        rest = joined[cut:]
    if rest:
        yield rest
