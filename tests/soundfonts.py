"""Builder of small soundfonts, written from the specification and not from the reader."""

import io
import itertools
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile

from loris_cli.array_types import Array

GENERATOR_NUMBERS = {
    "startAddrsOffset": 0, "endAddrsOffset": 1, "startloopAddrsOffset": 2,
    "endloopAddrsOffset": 3, "startAddrsCoarseOffset": 4, "modLfoToPitch": 5,
    "vibLfoToPitch": 6, "modEnvToPitch": 7, "initialFilterFc": 8, "initialFilterQ": 9,
    "modLfoToFilterFc": 10, "modEnvToFilterFc": 11, "endAddrsCoarseOffset": 12,
    "modLfoToVolume": 13, "pan": 17, "delayModLFO": 21, "freqModLFO": 22, "delayVibLFO": 23,
    "freqVibLFO": 24, "delayModEnv": 25, "attackModEnv": 26, "holdModEnv": 27,
    "decayModEnv": 28, "sustainModEnv": 29, "releaseModEnv": 30, "keynumToModEnvHold": 31,
    "keynumToModEnvDecay": 32, "delayVolEnv": 33, "attackVolEnv": 34, "holdVolEnv": 35,
    "decayVolEnv": 36, "sustainVolEnv": 37, "releaseVolEnv": 38, "keynumToVolEnvHold": 39,
    "keynumToVolEnvDecay": 40, "instrument": 41, "keyRange": 43, "velRange": 44,
    "startloopAddrsCoarseOffset": 45, "keynum": 46, "velocity": 47, "initialAttenuation": 48,
    "endloopAddrsCoarseOffset": 50, "coarseTune": 51, "fineTune": 52, "sampleID": 53,
    "sampleModes": 54, "scaleTuning": 56, "exclusiveClass": 57, "overridingRootKey": 58,
}  # fmt: skip
"""Generators by their names in the SoundFont Technical Specification 2.04, section 8.1.2."""
NO_LOOP = 0, 0
MONO_SAMPLE, VORBIS_SAMPLE = 1, 0x11
SILENT_POINTS = 46
"""Zeros after each sample (section 6.1)."""

Amount = int | tuple[int, int]
"""Value of a generator, or lowest and highest value of a range."""
Chunks = dict[bytes, bytes]


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """Sample of a soundfont."""

    waveform: Array
    """``(samples,)``, full scale 1."""
    rate_hz: int = 44100
    pitch: int = 60
    correction_cents: int = 0
    loop: tuple[int, int] = NO_LOOP
    """First sample of the loop, and first sample after it."""


@dataclass(frozen=True, kw_only=True)
class Zone:
    """Zone of an instrument or of a preset."""

    target: int | None = 0
    """Index of the sample or of the instrument; None in a global zone."""
    generators: Mapping[str, Amount] = field(default_factory=dict)
    modulators: Sequence[tuple[int, str, int, int]] = ()
    """Source, destination, amount and amount source of each."""


def build_chunks(
    samples: Sequence[Sample],
    instruments: Sequence[Sequence[Zone]],
    presets: Mapping[tuple[int, int], Sequence[Zone]],
    *,
    vorbis: bool = False,
) -> Chunks:
    """Build the chunks of a soundfont.

    Args:
        samples: samples of the font.
        instruments: zones of each instrument.
        presets: zones of each preset, by bank and program.
        vorbis: compress the samples as sf3convert does.

    Returns:
        Content of the chunks of the lists ``sdta`` and ``pdta``, in their order in a file.
    """
    chunks = _encode_vorbis_samples(samples) if vorbis else _encode_pcm_samples(samples)
    heads = b"".join(
        struct.pack(
            "<20s3H3I", f"preset {bank} {program}".encode(), program, bank, first, *[0] * 3
        )
        for (bank, program), first in zip(
            [*presets, (0, 0)], _first_indices(presets.values()), strict=True
        )
    )
    names = [f"instrument {index}" for index in range(len(instruments))]
    instrument_heads = b"".join(
        struct.pack("<20sH", name.encode(), first)
        for name, first in zip([*names, "EOI"], _first_indices(instruments), strict=True)
    )
    outer = _encode_zones([z for zones in presets.values() for z in zones], "instrument")
    inner = _encode_zones([zone for zones in instruments for zone in zones], "sampleID")
    return {
        b"smpl": chunks[b"smpl"],
        b"phdr": heads,
        **{b"p" + name: content for name, content in outer.items()},
        b"inst": instrument_heads,
        **{b"i" + name: content for name, content in inner.items()},
        b"shdr": chunks[b"shdr"],
    }


def encode_riff(chunks: Chunks, *, padded: bool = True) -> bytes:
    """Encode the chunks of a soundfont as a file.

    Args:
        chunks: content of the chunks, with ``smpl`` in the list ``sdta``.
        padded: append a zero to chunks of odd size, as RIFF demands; sf3convert does not.
    """
    info = _encode_chunk(b"ifil", struct.pack("<2H", 2, 4), padded)
    info += _encode_chunk(b"INAM", b"tests\0", padded)
    lists = {b"INFO": info, b"sdta": b"", b"pdta": b""}
    for name, content in chunks.items():
        lists[b"sdta" if name == b"smpl" else b"pdta"] += _encode_chunk(name, content, padded)
    body = b"".join(
        _encode_chunk(b"LIST", name + content, padded) for name, content in lists.items()
    )
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"sfbk" + body


def write_soundfont(
    path: Path,
    samples: Sequence[Sample],
    instruments: Sequence[Sequence[Zone]],
    presets: Mapping[tuple[int, int], Sequence[Zone]] | None = None,
    *,
    vorbis: bool = False,
) -> Path:
    """Write a soundfont; by default, program 0 is the first instrument."""
    chunks = build_chunks(samples, instruments, presets or {(0, 0): [Zone()]}, vorbis=vorbis)
    path.write_bytes(encode_riff(chunks))
    return path


def _first_indices(groups: Iterable[Sequence[Zone]]) -> list[int]:
    """Return the index of the first zone of each group, and the number of zones."""
    return [0, *itertools.accumulate(len(group) for group in groups)]


def _encode_chunk(name: bytes, content: bytes, padded: bool) -> bytes:
    padding = b"\0" * (len(content) % 2) if padded else b""
    return name + struct.pack("<I", len(content)) + content + padding


def _encode_zones(zones: Sequence[Zone], target_name: str) -> Chunks:
    """Return the chunks ``bag``, ``mod`` and ``gen`` of the zones of a level."""
    bags = modulators = generators = b""
    for zone in [*zones, Zone(target=None)]:
        bags += struct.pack("<2H", len(generators) // 4, len(modulators) // 10)
        for source, destination, amount, amount_source in zone.modulators:
            modulators += struct.pack(
                "<2HhHH", source, GENERATOR_NUMBERS[destination], amount, amount_source, 0
            )
        # Ranges are the first generators of a zone, the target is the last.
        ordered = sorted(zone.generators, key=lambda name: "Range" not in name)
        for name in ordered:
            generators += _encode_generator(name, zone.generators[name])
        if zone.target is not None:
            generators += _encode_generator(target_name, zone.target)
    return {
        b"bag": bags,
        b"mod": modulators + bytes(10),
        b"gen": generators + bytes(4),
    }


def _encode_generator(name: str, amount: Amount) -> bytes:
    number = GENERATOR_NUMBERS[name]
    if isinstance(amount, tuple):
        return struct.pack("<H2B", number, *amount)
    return struct.pack("<2H", number, amount & 0xFFFF)


def _encode_pcm_samples(samples: Sequence[Sample]) -> Chunks:
    pcm, heads = b"", b""
    for sample in samples:
        start = len(pcm) // 2
        points = np.round(32768 * np.asarray(sample.waveform)).clip(-32768, 32767)
        heads += _encode_sample_head(
            sample, start, start + len(points), [start + k for k in sample.loop], MONO_SAMPLE
        )
        pcm += points.astype("<i2").tobytes() + bytes(2 * SILENT_POINTS)
    return {b"smpl": pcm, b"shdr": heads + bytes(46)}


def _encode_vorbis_samples(samples: Sequence[Sample]) -> Chunks:
    """Limits are positions in the chunk; loops count from the start of the sample."""
    streams, heads = b"", b""
    for sample in samples:
        stream = encode_vorbis(sample.waveform, sample.rate_hz)
        start = len(streams)
        heads += _encode_sample_head(
            sample, start, start + len(stream), sample.loop, VORBIS_SAMPLE
        )
        streams += stream
    return {b"smpl": streams, b"shdr": heads + bytes(46)}


def encode_vorbis(waveform: Array, rate_hz: int) -> bytes:
    """Encode a waveform, ``(samples,)`` or ``(samples, channels)``, as Ogg Vorbis."""
    buffer = io.BytesIO()
    soundfile.write(
        buffer, waveform, rate_hz, format="OGG", subtype="VORBIS", compression_level=0.0
    )
    return buffer.getvalue()


def _encode_sample_head(
    sample: Sample, start: int, end: int, loop: Sequence[int], kind: int
) -> bytes:
    return struct.pack(
        "<20s5IBbHH",
        b"sample",
        start,
        end,
        *loop,
        sample.rate_hz,
        sample.pitch,
        sample.correction_cents,
        0,
        kind,
    )
