"""An mcap file that was cut short, as by a crash or a full disk: what is whole of it, made readable again.

The format (mcap.dev/spec): records of opcode, length (uint64) and content; messages lie in chunks, each followed by
one index record a channel; a summary and a footer, which readers begin with, come last and are what a crash leaves out.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

MAGIC = b"\x89MCAP0\r\n"
_FOOTER, _CHUNK, _MESSAGE_INDEX = 0x02, 0x06, 0x07
_CHUNK_INDEX, _STATISTICS, _DATA_END = 0x08, 0x0B, 0x0F
_COPY_BYTES = 1 << 24


@dataclass
class _Chunk:
    """A chunk's place and head, and where the index of each of its channels lies."""

    offset: int
    length: int
    start_ns: int
    end_ns: int
    size: int
    compression: bytes
    compressed_size: int
    index_offsets: dict[int, int] = field(default_factory=dict)
    index_length: int = 0

    def index_record(self) -> bytes:
        offsets = b"".join(struct.pack("<HQ", channel, offset) for channel, offset in self.index_offsets.items())
        head = struct.pack("<QQQQ", self.start_ns, self.end_ns, self.offset, self.length)
        tail = struct.pack("<QI", self.index_length, len(self.compression)) + self.compression
        sizes = struct.pack("<QQ", self.compressed_size, self.size)
        return _record(_CHUNK_INDEX, head + struct.pack("<I", len(offsets)) + offsets + tail + sizes)


def is_cut(path: Path) -> bool:
    """Whether a file begins as mcap, but does not end as one."""
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            return False
        file.seek(0, 2)
        if file.tell() < 2 * len(MAGIC):
            return True
        file.seek(-len(MAGIC), 2)
        return file.read() != MAGIC


def recover(path: Path, output: Path) -> int:
    """Copy the whole records of a cut file, and give them a summary and a footer.

    Returns:
        How many bytes at the end were not whole records.
    """
    with path.open("rb") as file:
        size = file.seek(0, 2)
        end, chunks = _whole_records(file, size)
        with output.open("wb") as out:
            _copy(file, out, end)
            out.write(_record(_DATA_END, struct.pack("<I", 0)))
            summary_start = out.tell()
            out.write(b"".join(chunk.index_record() for chunk in chunks))
            # readers count the messages themselves; that there are statistics makes them look at the chunks' index
            out.write(_record(_STATISTICS, struct.pack("<QHIIIIQQI", 0, 0, 0, 0, 0, len(chunks), 0, 0, 0)))
            out.write(_record(_FOOTER, struct.pack("<QQI", summary_start if chunks else 0, 0, 0)) + MAGIC)
    return size - end


def _whole_records(file: BinaryIO, size: int) -> tuple[int, list[_Chunk]]:
    """Where the data ends, and the chunks before that."""
    position, chunks = len(MAGIC), list[_Chunk]()
    while position + 9 <= size:
        file.seek(position)
        opcode, length = struct.unpack("<BQ", file.read(9))
        after = position + 9 + length
        if after > size or opcode in (_DATA_END, _FOOTER):
            break
        if opcode == _CHUNK:
            chunks.append(_read_chunk(file, position, 9 + length))
        elif opcode == _MESSAGE_INDEX and chunks:
            (channel,) = struct.unpack("<H", file.read(2))
            chunks[-1].index_offsets[channel] = position
            chunks[-1].index_length += 9 + length
        position = after
    return position, chunks


def _read_chunk(file: BinaryIO, offset: int, length: int) -> _Chunk:
    start_ns, end_ns, size, _, name_length = struct.unpack("<QQQII", file.read(32))
    compression = file.read(name_length)
    (compressed_size,) = struct.unpack("<Q", file.read(8))
    return _Chunk(offset, length, start_ns, end_ns, size, compression, compressed_size)


def _record(opcode: int, content: bytes) -> bytes:
    return struct.pack("<BQ", opcode, len(content)) + content


def _copy(file: BinaryIO, out: BinaryIO, count: int) -> None:
    file.seek(0)
    while count and (part := file.read(min(count, _COPY_BYTES))):
        out.write(part)
        count -= len(part)
