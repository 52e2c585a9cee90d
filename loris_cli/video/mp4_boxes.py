"""Boxes of MP4 and QuickTime files that ffmpeg does not copy (ISO/IEC 14496-12).

moov of the source -> edits, sample description, tags -> moov of the output -> chunk offsets
"""

import os
import shutil
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import numpy as np

CONTAINER_BOXES = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"udta"}
SAMPLE_ENTRY_BOXES = {
    *(b"st3d", b"sv3d", b"vexu", b"hfov", b"lhvC"),  # 3-D and 360-degree video
    *(b"dvcC", b"dvvC", b"dvwC", b"mdcv", b"clli", b"amve"),  # Dolby Vision and HDR
}
"""Boxes of a video sample entry that are copied."""
SAMPLE_ENTRY_BYTES = 86  # header and fields of a VisualSampleEntry
EMPTY_EDIT = -1
MAX_EDITED_S = 24 * 3600
MAX_MOOV_BYTES = 1 << 28
FIRST_ISO_LANGUAGE, UNSPECIFIED_LANGUAGE = 0x400, 0x7FFF  # smaller: Macintosh languages
MAX_32_BIT_OFFSET = (1 << 32) - 1
MAX_DEPTH = 6  # moov, trak, mdia, minf, stbl, table
FULL_BOX_HEAD = bytes(4)  # version and flags
METADATA_HANDLER = bytes(8) + b"mdta" + bytes(13)


@dataclass
class Box:
    """Type and content of a box: bytes, or the boxes in it."""

    kind: bytes
    content: "bytes | list[Box]"

    @property
    def boxes(self) -> "list[Box]":
        """Boxes in this box; empty if they are not parsed."""
        return self.content if isinstance(self.content, list) else []

    @property
    def data(self) -> bytes:
        """Content of a box without boxes."""
        return self.content if isinstance(self.content, bytes) else b""

    def find(self, *path: bytes) -> "Box | None":
        """Return the first box at a path of types below this box."""
        for box in self.boxes:
            if box.kind == path[0]:
                return box if len(path) == 1 else box.find(*path[1:])
        return None

    def encode(self) -> bytes:
        """Return the bytes of the box."""
        content = self.data or b"".join(box.encode() for box in self.boxes)
        return struct.pack(">I4s", len(content) + 8, self.kind) + content


@dataclass(frozen=True, kw_only=True)
class Edit:
    """Entry of an edit list.

    Args:
        duration_s: length of the edit.
        start_s: presentation time of its first frame, relative to the first sample of the
            track in decoding order; ``None`` shows nothing.
    """

    duration_s: Fraction
    start_s: Fraction | None


@dataclass(frozen=True, kw_only=True)
class SourceBoxes:
    """Content of the boxes of a source that an output should contain too."""

    movie_hz: int = 1000
    """Time scale of the durations of edits."""
    edits: tuple[Edit, ...] = ()
    entry_boxes: tuple[Box, ...] = ()
    """Boxes of the video sample entry, see `SAMPLE_ENTRY_BOXES`."""
    track_boxes: tuple[Box, ...] = ()
    """Boxes of the video track with types of other organizations: 360-degree video."""
    language: bytes = b""
    """Packed language of the video track, of which ffmpeg writes only some to QuickTime."""
    tags: tuple[tuple[bytes, bytes], ...] = ()
    """Key, ``com.apple.quicktime.make`` for example, and value atoms of QuickTime tags."""


def read_source_boxes(path: Path, track_id: int) -> SourceBoxes | None:
    """Read the boxes of a source that ffmpeg does not copy.

    Args:
        path: media file.
        track_id: number of the video track, ffmpeg's identifier of the stream.

    Returns:
        The boxes; ``None`` if the file is not a readable MP4 or QuickTime file.
    """
    try:
        with path.open("rb") as file:
            moov = _read_moov(file)
        track = None if moov is None else _find_track(moov[1], track_id)
        if moov is None or track is None:
            return None
        return SourceBoxes(
            movie_hz=_read_rate_hz(moov[1].find(b"mvhd")),
            edits=_drop_implausible_edits(tuple(_read_edits(moov[1], track))),
            entry_boxes=tuple(
                b for b in _parse_sample_entry(track)[1] if b.kind in SAMPLE_ENTRY_BOXES
            ),
            track_boxes=tuple(b for b in track.boxes if b.kind == b"uuid"),
            language=_read_language(track),
            tags=tuple(_read_tags(moov[1])),
        )
    except (struct.error, ValueError, IndexError, ZeroDivisionError):  # damaged
        return None


def write_source_boxes(path: Path, source: SourceBoxes, work: Path) -> None:
    """Replace or add boxes of an MP4 or QuickTime file that ffmpeg wrote.

    Args:
        path: output of ffmpeg, with the video in its first track.
        source: boxes of the source; several edits replace those of the video track.
        work: folder for a temporary file.
    """
    with path.open("rb") as file:
        found = _read_moov(file)
        if found is None:
            return
        at, moov = found
        old_bytes = moov.encode()
        track = next(box for box in moov.boxes if box.kind == b"trak")
        _replace_sample_entry_boxes(track, source.entry_boxes)
        track.boxes.extend(source.track_boxes)
        media_header = track.find(b"mdia", b"mdhd")
        if source.language and media_header is not None:
            media_header.content = media_header.data[:-4] + source.language + bytes(2)
        if source.tags:
            moov.boxes.append(_build_tags(source.tags, is_full_box=path.suffix != ".mov"))
        if len(source.edits) > 1:
            _replace_edits(moov, track, source.edits)
        if moov.encode() == old_bytes:
            return
        _move_chunks(moov, at, len(old_bytes), path.stat().st_size)
        patched = work / "patched"
        with patched.open("wb") as out:
            file.seek(0)
            out.write(file.read(at))
            out.write(moov.encode())
            file.seek(at + len(old_bytes))
            shutil.copyfileobj(file, out, 1 << 20)
    os.replace(patched, path)


def _read_moov(file: BinaryIO) -> tuple[int, Box] | None:
    """Return the position and the content of the movie box."""
    size = os.fstat(file.fileno()).st_size
    at = 0
    while at + 8 <= size:
        file.seek(at)
        head = file.read(16)
        length, kind = struct.unpack(">I4s", head[:8])
        n_head = 16 if length == 1 else 8
        length = struct.unpack(">Q", head[8:])[0] if length == 1 else length or size - at
        if length < n_head:
            return None
        if kind == b"moov":
            if length > min(size - at, MAX_MOOV_BYTES):
                return None
            file.seek(at + n_head)
            return at, Box(b"moov", _parse(file.read(length - n_head), depth=1))
        at += length
    return None


def _parse(data: bytes, *, depth: int = MAX_DEPTH) -> list[Box]:
    """Parse the boxes in a box, and those in containers down to a depth."""
    boxes, at = [], 0
    while at + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        size = size or len(data) - at
        if not 8 <= size <= len(data) - at:
            raise ValueError("invalid box size")
        content = data[at + 8 : at + size]
        is_container = kind in CONTAINER_BOXES and depth < MAX_DEPTH
        boxes.append(Box(kind, _parse(content, depth=depth + 1) if is_container else content))
        at += size
    return boxes


def _find_track(moov: Box, track_id: int) -> Box | None:
    for track in (box for box in moov.boxes if box.kind == b"trak"):
        header = track.find(b"tkhd")
        if header is not None:
            at = 20 if header.data[0] == 1 else 12
            if struct.unpack_from(">I", header.data, at)[0] == track_id:
                return track
    return None


def _read_rate_hz(header: Box | None) -> int:
    """Return the time scale of a movie or media header."""
    if header is None:
        raise ValueError("no header")
    return int(struct.unpack_from(">I", header.data, 20 if header.data[0] == 1 else 12)[0])


def _read_edits(moov: Box, track: Box) -> Iterator[Edit]:
    """Yield the edits from the first that shows something."""
    movie_hz = _read_rate_hz(moov.find(b"mvhd"))
    media_hz = _read_rate_hz(track.find(b"mdia", b"mdhd"))
    edit_list = track.find(b"edts", b"elst")
    if edit_list is None:
        return
    layout = ">QqI" if edit_list.data[0] == 1 else ">IiI"
    size = struct.calcsize(layout)
    n_edits = struct.unpack_from(">I", edit_list.data, 4)[0]
    has_started = False
    for entry in struct.iter_unpack(layout, edit_list.data[8 : 8 + n_edits * size]):
        has_started |= entry[1] != EMPTY_EDIT
        if has_started and entry[0]:
            start_s = Fraction(entry[1] - _read_first_offset(track), media_hz)
            yield Edit(
                duration_s=Fraction(entry[0], movie_hz),
                start_s=None if entry[1] == EMPTY_EDIT else start_s,
            )


def _drop_implausible_edits(edits: tuple[Edit, ...]) -> tuple[Edit, ...]:
    """Return the edits, or none if their times are implausible."""
    starts_s = [abs(edit.start_s or Fraction(0)) for edit in edits]
    end_s = sum((edit.duration_s for edit in edits), Fraction(0))
    return edits if max(end_s, *starts_s, Fraction(0)) <= MAX_EDITED_S else ()


def _read_first_offset(track: Box) -> int:
    """Return the composition offset of the first sample, in ticks of the media."""
    offsets = track.find(b"mdia", b"minf", b"stbl", b"ctts")
    if offsets is None or len(offsets.data) < 16:
        return 0
    return int(struct.unpack_from(">i", offsets.data, 12)[0])


def _replace_edits(moov: Box, track: Box, edits: Sequence[Edit]) -> None:
    movie_header, track_header = moov.find(b"mvhd"), track.find(b"tkhd")
    assert movie_header is not None
    assert track_header is not None
    movie_hz, media_hz = (
        _read_rate_hz(movie_header),
        _read_rate_hz(track.find(b"mdia", b"mdhd")),
    )
    first = _read_first_offset(track)
    ends, end_s = [0], Fraction(0)
    entries = []
    for edit in edits:  # ends are rounded down, so that no frame is added
        end_s += edit.duration_s
        ends.append(int(end_s * movie_hz))
        start = EMPTY_EDIT
        if edit.start_s is not None:
            start = max(0, round(edit.start_s * media_hz) + first)
        entries.append(struct.pack(">QqI", ends[-1] - ends[-2], start, 1 << 16))
    content = struct.pack(">II", 1 << 24, len(entries)) + b"".join(entries)
    track.boxes[:] = [box for box in track.boxes if box.kind != b"edts"]
    track.boxes.insert(1, Box(b"edts", [Box(b"elst", content)]))
    _write_duration(track_header, ends[-1], at=(20, 28))
    durations = [_read_duration(t.find(b"tkhd")) for t in moov.boxes if t.kind == b"trak"]
    _write_duration(movie_header, max(durations), at=(16, 24))


def _read_duration(track_header: Box | None) -> int:
    assert track_header is not None
    if track_header.data[0] == 1:
        return int(struct.unpack_from(">Q", track_header.data, 28)[0])
    return int(struct.unpack_from(">I", track_header.data, 20)[0])


def _write_duration(header: Box, duration: int, *, at: tuple[int, int]) -> None:
    data = bytearray(header.data)
    is_long = data[0] == 1
    limit = (1 << (64 if is_long else 32)) - 1
    struct.pack_into(">Q" if is_long else ">I", data, at[is_long], min(duration, limit))
    header.content = bytes(data)


def _parse_sample_entry(track: Box) -> tuple[bytes, list[Box]]:
    """Return the fields of the first sample entry, and its boxes."""
    description = track.find(b"mdia", b"minf", b"stbl", b"stsd")
    if description is None:
        return b"", []
    size = struct.unpack_from(">I", description.data, 8)[0]
    entry = description.data[8 : 8 + size]
    end = len(entry)
    while end - SAMPLE_ENTRY_BYTES >= 4 and entry[end - 4 : end] == bytes(4):
        boxes = entry[SAMPLE_ENTRY_BYTES:end]
        try:
            return entry[:SAMPLE_ENTRY_BYTES], _parse(boxes)
        except ValueError:
            end -= 4  # QuickTime files may end with four zeros
    return entry[:SAMPLE_ENTRY_BYTES], _parse(entry[SAMPLE_ENTRY_BYTES:end])


def _replace_sample_entry_boxes(track: Box, boxes: Sequence[Box]) -> None:
    """Replace the boxes of the same types in the first sample entry, and add the others."""
    description = track.find(b"mdia", b"minf", b"stbl", b"stsd")
    assert description is not None
    fields, old = _parse_sample_entry(track)
    replaced = {box.kind for box in boxes}
    # ffmpeg derives a vexu box without the layout from a st3d box, and readers prefer it.
    if b"st3d" in replaced | {box.kind for box in old}:
        replaced.add(b"vexu")
    new = [box for box in old if box.kind not in replaced] + list(boxes)
    entry = fields[4:] + b"".join(box.encode() for box in new)
    old_size = struct.unpack_from(">I", description.data, 8)[0]
    rest = description.data[8 + old_size :]
    size = struct.pack(">I", len(entry) + 4)
    description.content = description.data[:8] + size + entry + rest


def _read_language(track: Box) -> bytes:
    """Return the language of a track if it is an ISO 639-2 code, else an empty string."""
    header = track.find(b"mdia", b"mdhd")
    language = b"" if header is None else header.data[-4:-2]
    is_iso = FIRST_ISO_LANGUAGE <= int.from_bytes(language) < UNSPECIFIED_LANGUAGE
    return language if is_iso else b""


def _read_tags(moov: Box) -> Iterator[tuple[bytes, bytes]]:
    """Yield the QuickTime tags whose keys are names of a domain, such as ``com.apple``."""
    for meta in (moov.find(b"meta"), moov.find(b"udta", b"meta")):
        if meta is None:
            continue
        # A box of ISO files has version and flags, one of QuickTime files has not.
        boxes = Box(b"meta", _parse(meta.data[0 if meta.data[4:8] == b"hdlr" else 4 :]))
        handler, keys, values = (boxes.find(k) for k in (b"hdlr", b"keys", b"ilst"))
        if handler is None or handler.data[8:12] != b"mdta" or not keys or not values:
            continue
        names = [box.data for box in _parse(keys.data[8:])]
        for value in _parse(values.data):
            index = int.from_bytes(value.kind) - 1
            if 0 <= index < len(names) and b"." in names[index]:
                yield names[index], value.data


def _build_tags(tags: Sequence[tuple[bytes, bytes]], *, is_full_box: bool) -> Box:
    keys = b"".join(Box(b"mdta", name).encode() for name, _ in tags)
    values = [Box((k + 1).to_bytes(4), value) for k, (_, value) in enumerate(tags)]
    boxes = [
        Box(b"hdlr", METADATA_HANDLER),
        Box(b"keys", FULL_BOX_HEAD + struct.pack(">I", len(tags)) + keys),
        Box(b"ilst", list(values)),
    ]
    content = b"".join(box.encode() for box in boxes)
    return Box(b"meta", (FULL_BOX_HEAD if is_full_box else b"") + content)


def _move_chunks(moov: Box, at: int, old_size: int, file_size: int) -> None:
    """Move the offsets of all chunks behind the movie box by the growth of the box."""
    tables = [
        stbl
        for track in moov.boxes
        if track.kind == b"trak" and (stbl := track.find(b"mdia", b"minf", b"stbl")) is not None
    ]
    needs_64_bits = file_size + len(moov.encode()) > MAX_32_BIT_OFFSET
    offsets: list[tuple[Box, np.ndarray]] = []
    for box in (box for table in tables for box in table.boxes):
        if box.kind in {b"stco", b"co64"}:
            kind = ">u4" if box.kind == b"stco" else ">u8"
            values = np.frombuffer(box.data[8:], kind).astype(np.int64)
            if needs_64_bits:
                box.kind = b"co64"
            box.content = box.data[:8] + values.astype(_offset_type(box)).tobytes()
            offsets.append((box, values))
    growth = len(moov.encode()) - old_size
    for box, values in offsets:
        moved = np.where(values > at, values + growth, values)
        box.content = box.data[:8] + moved.astype(_offset_type(box)).tobytes()


def _offset_type(box: Box) -> str:
    return ">u8" if box.kind == b"co64" else ">u4"
