"""Structure of media containers, as far as mutations need it: chunks, size and time fields.

The parsers read only the small valid files of the mutation corpus.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

MP4_PARENTS = {
    b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"mvex", b"moof", b"traf", b"udta",
}  # fmt: skip
MP4_TIME_BOXES = {
    b"stts", b"ctts", b"elst", b"mdhd", b"mvhd", b"tkhd", b"tfdt", b"trun", b"sidx", b"mehd",
}  # fmt: skip
EBML_PARENTS = {
    "18538067", "1549a966", "1654ae6b", "ae", "e0", "e1", "1f43b675", "a0", "1c53bb6b", "bb",
    "b7",
}  # fmt: skip
EBML_TIMES = {"e7", "9b", "23e383", "2ad7b1", "4489", "b3", "23314f", "56aa"}
EBML_BLOCKS = {"a3", "a1"}
ASF_PARENTS = {"3026b275", "b503bf5f"}
ASF_FILE_PROPERTIES, ASF_DATA = "a1dcab8c", "3626b275"
MXF_TIME_TAGS = {
    0x0202, 0x1201, 0x1501, 0x1502, 0x3001, 0x3002, 0x3F0B, 0x3F0C, 0x3F0D, 0x4B01, 0x4B02,
}  # fmt: skip
PES_TIME_MASK = b"\x0e\xff\xfe\xff\xfe"  # the other bits are constant
MAX_TIME_FIELDS_PER_BOX = 64


@dataclass(frozen=True)
class Field:
    """Number in a file; bits outside of the mask are constant."""

    at: int
    size: int
    is_little_endian: bool = False
    mask: bytes = b""


@dataclass
class Layout:
    """Structure of one file; a chunk is the first and the last byte + 1."""

    chunks: list[tuple[int, int]] = field(default_factory=list)
    sizes: list[Field] = field(default_factory=list)
    times: list[Field] = field(default_factory=list)
    page_crc: bool = False


def find_layout(suffix: str, data: bytes) -> Layout:
    """Return the structure of a file of the corpus."""
    layout = Layout()
    match suffix:
        case ".mp4" | ".mov":
            _add_mp4_boxes(layout, data, 0, len(data))
        case ".mkv" | ".webm":
            _add_ebml_elements(layout, data, 0, len(data))
        case ".avi":
            _add_riff_chunks(layout, data, 0, len(data))
        case ".ts":
            _add_transport_packets(layout, data, 188)
        case ".m2ts":
            _add_transport_packets(layout, data, 192)
        case ".mpg":
            _add_program_packets(layout, data)
        case ".flv":
            _add_flv_tags(layout, data)
        case ".wmv":
            _add_asf_objects(layout, data, 0, len(data))
        case ".ogv":
            _add_ogg_pages(layout, data)
        case ".mxf":
            _add_mxf_packets(layout, data)
        case ".gif":
            _add_gif_blocks(layout, data)
        case _:
            raise ValueError(f"no parser for {suffix}")
    return layout


def _add_mp4_boxes(layout: Layout, data: bytes, start: int, end: int) -> None:
    """Add the boxes of ISO/IEC 14496-12."""
    while start + 8 <= end:
        size = int.from_bytes(data[start : start + 4]) or end - start
        kind = data[start + 4 : start + 8]
        layout.chunks.append((start, start + size))
        layout.sizes.append(Field(start, 4))
        if kind in MP4_PARENTS:
            _add_mp4_boxes(layout, data, start + 8, start + size)
        elif kind in MP4_TIME_BOXES:
            last = min(start + size, start + 12 + 4 * MAX_TIME_FIELDS_PER_BOX)
            layout.times += [Field(at, 4) for at in range(start + 12, last, 4)]
        elif kind == b"stsz":
            layout.sizes += [Field(at, 4) for at in range(start + 12, start + size, 4)]
        start += size


def _add_ebml_elements(layout: Layout, data: bytes, start: int, end: int) -> None:
    """Add the elements of Matroska (RFC 9559)."""
    while start < end:
        id_length = 9 - data[start].bit_length()
        size_at = start + id_length
        size_length = 9 - data[size_at].bit_length()
        number = int.from_bytes(data[size_at : size_at + size_length])
        unknown = (1 << 7 * size_length) - 1
        size = number & unknown
        body = size_at + size_length
        stop = min(end, body + size) if size != unknown else end
        layout.chunks.append((start, stop))
        mask = unknown.to_bytes(size_length)
        layout.sizes.append(Field(size_at, size_length, mask=mask))
        name = data[start:size_at].hex()
        if name in EBML_PARENTS:
            _add_ebml_elements(layout, data, body, stop)
        elif name in EBML_TIMES:
            layout.times.append(Field(body, stop - body))
        elif name in EBML_BLOCKS:
            layout.times.append(Field(body + 1, 2))
        start = stop


def _add_riff_chunks(layout: Layout, data: bytes, start: int, end: int) -> None:
    while start + 8 <= end:
        kind = data[start : start + 4]
        size = int.from_bytes(data[start + 4 : start + 8], "little")
        layout.chunks.append((start, min(start + 8 + size, end)))
        layout.sizes.append(Field(start + 4, 4, True))
        body, stop = start + 8, min(start + 8 + size, end)
        if kind in {b"RIFF", b"LIST"}:
            _add_riff_chunks(layout, data, body + 4, stop)
        elif kind == b"avih":  # microseconds per frame, number of frames
            layout.times += [Field(body, 4, True), Field(body + 16, 4, True)]
        elif kind == b"strh":  # scale, rate, start, length
            layout.times += [Field(at, 4, True) for at in range(body + 20, body + 36, 4)]
        elif kind == b"strf":
            layout.times += [Field(at, 4, True) for at in range(body, stop - 3, 4)]
        elif kind == b"idx1":
            layout.sizes += [Field(at, 4, True) for at in range(body + 8, stop, 8)]
        start += 8 + size + size % 2


def _pes_times(data: bytes, at: int) -> Iterator[Field]:
    """Yield the presentation and the decoding time of a packet of ISO/IEC 13818-1."""
    is_pes = 0xC0 <= data[at + 3] < 0xF0 or data[at + 3] == 0xBD
    if is_pes and data[at : at + 3] == b"\0\0\1":
        flags = data[at + 7]
        yield from (
            Field(at + 9 + 5 * k, 5, mask=PES_TIME_MASK)
            for k in range(2)
            if flags & (0x80 >> k) and flags & 0x80
        )


def _add_transport_packets(layout: Layout, data: bytes, packet_size: int) -> None:
    for start in range(0, len(data) - packet_size + 1, packet_size):
        layout.chunks.append((start, start + packet_size))
        at = start + packet_size - 188
        body = at + 4
        if data[at + 3] & 0x20:  # adaptation field
            layout.sizes.append(Field(at + 4, 1))
            if data[at + 4] > 6 and data[at + 5] & 0x10:
                layout.times.append(Field(at + 6, 6))  # clock reference
            body += 1 + data[at + 4]
        if data[at + 1] & 0x40 and body + 19 < start + packet_size:
            layout.sizes.append(Field(body + 4, 2))
            layout.times += _pes_times(data, body)


def _add_program_packets(layout: Layout, data: bytes) -> None:
    packs = [match.start() for match in re.finditer(rb"\x00\x00\x01\xba", data)]
    layout.chunks += zip(packs, [*packs[1:], len(data)], strict=True)
    layout.times += [Field(at + 4, 6) for at in packs]
    for match in re.finditer(rb"\x00\x00\x01[\xbb-\xef]", data):
        layout.sizes.append(Field(match.start() + 4, 2))
        layout.times += _pes_times(data, match.start())


def _add_flv_tags(layout: Layout, data: bytes) -> None:
    start = 13
    while start + 11 <= len(data):
        size = int.from_bytes(data[start + 1 : start + 4])
        layout.chunks.append((start, start + 15 + size))
        layout.sizes += [Field(start + 1, 3), Field(start + 11 + size, 4)]
        layout.times.append(Field(start + 4, 4))
        if data[start] == 9:
            layout.times.append(Field(start + 13, 3))  # composition time
        start += 15 + size


def _add_asf_objects(layout: Layout, data: bytes, start: int, end: int) -> None:
    while start + 24 <= end:
        name = data[start : start + 4].hex()
        size = int.from_bytes(data[start + 16 : start + 24], "little")
        layout.chunks.append((start, start + size))
        layout.sizes.append(Field(start + 16, 8, True))
        if name in ASF_PARENTS:
            body = start + (30 if name == "3026b275" else 46)
            _add_asf_objects(layout, data, body, start + size)
        elif name == ASF_FILE_PROPERTIES:  # number of packets, durations, preroll
            layout.times += [Field(at, 8, True) for at in range(start + 56, start + 88, 8)]
            layout.sizes += [Field(at, 4, True) for at in (start + 92, start + 96)]
        elif name == ASF_DATA:
            packet_size = int.from_bytes(data[92 + 30 : 96 + 30], "little")
            body = start + 50
            if not 64 < packet_size < size:
                packet_size = 3200
            layout.chunks += [
                (at, at + packet_size) for at in range(body, start + size, packet_size)
            ]
            layout.times += [
                Field(at + 5, 4, True) for at in range(body, start + size, packet_size)
            ]
            payload = rb"[\x01\x02\x81\x82].\x00{4}\x08.{4}(.{4})"
            for match in re.finditer(payload, data[body : start + size], re.DOTALL):
                layout.times.append(Field(body + match.start(1), 4, True))
        start += max(size, 24)


def _add_ogg_pages(layout: Layout, data: bytes) -> None:
    pages = [match.start() for match in re.finditer(rb"OggS\0", data)]
    layout.chunks += zip(pages, [*pages[1:], len(data)], strict=True)
    layout.times += [Field(at + 6, 8, True) for at in pages]
    for at in pages:
        layout.sizes += [Field(at + 26 + k, 1) for k in range(1 + data[at + 26])]
    layout.page_crc = True


def _add_mxf_packets(layout: Layout, data: bytes) -> None:
    """Add the packets of SMPTE 336, and the times in the metadata of SMPTE 377."""
    start = 0
    while start + 17 < len(data):
        n_bytes = data[start + 16] & 0x7F if data[start + 16] & 0x80 else 0
        size = int.from_bytes(data[start + 17 : start + 17 + n_bytes]) if n_bytes else 0
        size = size if n_bytes else data[start + 16]
        body = start + 17 + n_bytes
        layout.chunks.append((start, body + size))
        layout.sizes.append(Field(start + 17, n_bytes) if n_bytes else Field(start + 16, 1))
        if data[start + 5] == 0x53:  # local set
            at = body
            while at + 4 <= body + size:
                tag = int.from_bytes(data[at : at + 2])
                length = int.from_bytes(data[at + 2 : at + 4])
                if tag in MXF_TIME_TAGS and length:
                    layout.times.append(Field(at + 4, length))
                layout.sizes.append(Field(at + 2, 2))
                at += 4 + length
        start = body + size


def _add_gif_blocks(layout: Layout, data: bytes) -> None:
    blocks = [match.start() for match in re.finditer(rb"\x21\xf9\x04", data)]
    layout.chunks += zip(blocks, [*blocks[1:], len(data)], strict=True)
    layout.times += [Field(at + 4, 2, True) for at in blocks]
    layout.sizes += [Field(at + 13, 2, True) for at in blocks]  # width of the picture
    layout.sizes += [Field(at + 15, 2, True) for at in blocks]
    layout.sizes += [Field(6, 2, True), Field(8, 2, True)]
