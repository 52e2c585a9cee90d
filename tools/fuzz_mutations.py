"""Corpus of small valid videos, one per container, and reproducible mutations of them."""

import random
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from fuzz_layouts import Field, Layout, find_layout

from loris_cli.video.ffmpeg_program import find_ffmpeg

H264 = "-c:v libx264 -preset veryfast -threads 1 -bf 2 -g 12 -c:a"
CONTAINERS = {
    "mp4": (".mp4", f"{H264} aac"),
    "fmp4": (".mp4", f"{H264} aac -movflags frag_keyframe+empty_moov+default_base_moof"),
    "mov": (".mov", "-c:v mpeg4 -g 12 -c:a pcm_s16le -movflags +faststart"),
    "mkv": (".mkv", f"{H264} libvorbis"),
    "webm": (".webm", "-c:v libvpx-vp9 -speed 8 -threads 1 -b:v 60k -c:a libopus"),
    "avi": (".avi", "-c:v mpeg4 -g 12 -c:a libmp3lame"),
    "ts": (".ts", f"{H264} aac"),
    "m2ts": (".m2ts", f"{H264} ac3 -f mpegts -mpegts_m2ts_mode 1"),
    "flv": (".flv", f"{H264} aac"),
    "wmv": (".wmv", "-c:v wmv2 -g 12 -c:a wmav2"),
    "mpg": (".mpg", "-c:v mpeg2video -bf 2 -g 12 -c:a mp2"),
    "ogv": (".ogv", "-c:v libtheora -q:v 4 -g 12 -c:a libvorbis"),
    "mxf": (".mxf", "-c:v mpeg2video -bf 2 -g 12 -c:a pcm_s16le -ar 48000"),
    "gif": (".gif", "-an"),
}
"""Suffix and ffmpeg arguments of each container."""
BIT_EXACT = "-fflags +bitexact -flags:v +bitexact -flags:a +bitexact -map_metadata -1"
MAX_BLOCK_LOG2 = 11


def write_corpus(folder: Path, names: Sequence[str] = tuple(CONTAINERS)) -> dict[str, Path]:
    """Write a video of 1 s, 96 x 64 px, with audio, in each container."""
    paths = {}
    for name in names:
        suffix, codec_args = CONTAINERS[name]
        paths[name] = folder / f"{name}{suffix}"
        inputs = "-f lavfi -i testsrc2=s=96x64:r=25:d=1 -f lavfi -i sine=f=440:r=44100:d=1"
        arguments = f"-nostdin -v error -y {inputs} {codec_args} -pix_fmt yuv420p {BIT_EXACT}"
        if name == "gif":
            arguments = arguments.replace("-pix_fmt yuv420p", "")
        subprocess.run([find_ffmpeg(), *arguments.split(), paths[name]], check=True)
    return paths


def mutate(source: Path, mutation: str, seed: int) -> bytes:
    """Return the bytes of a mutated file; the same arguments give the same bytes.

    The mutation ``none`` returns the file itself.
    """
    if mutation == "none":
        return source.read_bytes()
    rng = random.Random(f"{source.stem}:{mutation}:{seed}")
    data = source.read_bytes()
    layout = find_layout(source.suffix, data)
    mutated = MUTATIONS[mutation](bytearray(data), layout, rng)
    if layout.page_crc and mutation != "bit-flips":
        mutated = repair_ogg_checksums(mutated)
    return bytes(mutated)


def _truncate(data: bytearray, layout: Layout, rng: random.Random) -> bytearray:
    """Cut the file off, half of the time near the start of a chunk."""
    cut = rng.randrange(1, len(data))
    if rng.random() < 0.5:
        cut = rng.choice(layout.chunks)[0] + rng.choice([0, 1, 4, 8, 12, 20, 33])
    return data[: max(1, cut)]


def _flip_bits(data: bytearray, layout: Layout, rng: random.Random) -> bytearray:
    """Flip 1 to 16 bits, half of the time only near the starts of chunks."""
    in_headers = rng.random() < 0.5
    for _ in range(2 ** rng.randrange(5)):
        at = rng.randrange(len(data))
        if in_headers:
            at = min(len(data) - 1, rng.choice(layout.chunks)[0] + rng.randrange(48))
        data[at] ^= 1 << rng.randrange(8)
    return data


def _swap_chunks(data: bytearray, layout: Layout, rng: random.Random) -> bytearray:
    """Swap 1 to 4 pairs of chunks, neighbours half of the time."""
    chunks = sorted(layout.chunks)
    for _ in range(2 ** rng.randrange(3)):
        k = rng.randrange(len(chunks) - 1)
        first = chunks[k]
        later = [chunk for chunk in chunks[k + 1 :] if chunk[0] >= first[1]]
        if not later:
            continue
        second = later[0] if rng.random() < 0.5 else rng.choice(later)
        (a, b), (c, d) = first, second
        data = data[:a] + data[c:d] + data[b:c] + data[a:b] + data[d:]
        if b - a != d - c:  # the other chunks have moved
            return data
    return data


def _resize_chunks(data: bytearray, layout: Layout, rng: random.Random) -> bytearray:
    """Change 1 to 4 sizes."""
    return _replace_fields(data, layout.sizes, rng, 2 ** rng.randrange(3))


def _change_times(data: bytearray, layout: Layout, rng: random.Random) -> bytearray:
    """Change 1 to 16 timestamps, durations or rates."""
    return _replace_fields(data, layout.times, rng, 2 ** rng.randrange(5))


def _zero_blocks(data: bytearray, layout: Layout, rng: random.Random) -> bytearray:
    for _ in range(rng.randrange(1, 4)):
        at, size = rng.randrange(len(data)), _block_size(rng)
        size = min(size, len(data) - at)
        data[at : at + size] = bytes(size)
    return data


def _insert_bytes(data: bytearray, layout: Layout, rng: random.Random) -> bytearray:
    """Insert random bytes, zeros or a copy of another part, half of the time between chunks."""
    for _ in range(rng.randrange(1, 4)):
        at, size = rng.randrange(len(data)), _block_size(rng)
        if rng.random() < 0.5:
            at = min(len(data), rng.choice(layout.chunks)[0])
        source = rng.randrange(len(data))
        blocks = [rng.randbytes(size), bytes(size), bytes(data[source : source + size])]
        data[at:at] = rng.choice(blocks)
    return data


def _remove_bytes(data: bytearray, layout: Layout, rng: random.Random) -> bytearray:
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(data))
        del data[max(at, 1) : at + _block_size(rng)]
    return data


MUTATIONS: dict[str, Callable[[bytearray, Layout, random.Random], bytearray]] = {
    "truncation": _truncate,
    "bit-flips": _flip_bits,
    "swapped-chunks": _swap_chunks,
    "resized-chunks": _resize_chunks,
    "wrong-times": _change_times,
    "zeroed-blocks": _zero_blocks,
    "inserted-bytes": _insert_bytes,
    "removed-bytes": _remove_bytes,
}


def _block_size(rng: random.Random) -> int:
    return round(2 ** rng.uniform(0, MAX_BLOCK_LOG2))


def _replace_fields(
    data: bytearray, fields: Sequence[Field], rng: random.Random, count: int
) -> bytearray:
    for place in rng.sample(fields, min(count, len(fields))):
        order = "little" if place.is_little_endian else "big"
        span = slice(place.at, place.at + place.size)
        old = int.from_bytes(data[span], order)  # type: ignore[arg-type]
        limit = 1 << 8 * place.size
        value = rng.choice([
            0, 1, limit - 1, limit // 2, limit // 2 - 1, old + 1, old - 1, old * 2,
            old + rng.randrange(-1000, 1000), old ^ 1 << rng.randrange(8 * place.size),
            rng.randrange(limit),
        ]) % limit  # fmt: skip
        if place.mask:
            mask = int.from_bytes(place.mask)
            value = value & mask | old & ~mask
        data[span] = value.to_bytes(place.size, order)  # type: ignore[arg-type]
    return data


def repair_ogg_checksums(data: bytearray) -> bytearray:
    """Write valid checksums: ffmpeg skips other pages, whatever else is wrong with them."""
    start = data.find(b"OggS\0")
    while start >= 0:
        lacing = data[start + 27 : start + 27 + (data[start + 26 : start + 27] or b"\0")[0]]
        end = start + 27 + len(lacing) + sum(lacing)
        if len(lacing) and end <= len(data):
            data[start + 22 : start + 26] = bytes(4)
            data[start + 22 : start + 26] = _ogg_crc(bytes(data[start:end])).to_bytes(
                4, "little"
            )
        start = data.find(b"OggS\0", start + 1)
    return data


def _ogg_crc(page: bytes) -> int:
    crc = 0
    for byte in page:
        crc = (crc << 8 & 0xFFFFFFFF) ^ OGG_CRC_TABLE[crc >> 24 ^ byte]
    return crc


def _make_crc_table() -> list[int]:
    table = []
    for byte in range(256):
        crc = byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ 0x04C11DB7 * (crc >> 31)) & 0xFFFFFFFF
        table.append(crc)
    return table


OGG_CRC_TABLE = _make_crc_table()
"""Table of the checksum of RFC 3533."""
