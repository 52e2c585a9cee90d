"""Reader of SoundFont 2 files (``.sf2``), and of those with Vorbis samples (``.sf3``).

    file -> RIFF chunks -> records -> zones of a preset;  sample header -> samples

Specification: SoundFont Technical Specification 2.04 (E-mu, 2006). Ignored are 24-bit
extensions, and modulators by anything other than velocity.
"""

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from loris_cli.array_types import Float32Array
from loris_cli.composition.soundfont_zones import (
    DEFAULT_MODULATORS,
    Generator,
    Modulator,
    Zone,
    has_effect,
    merge_zone,
    parse_modulator,
)
from loris_cli.errors import InputError

DRUM_BANK = 128
MAX_ZONES = 20_000
"""Maximum number of zones of a preset; FluidR3 has at most 720."""
MAX_MODULATORS = 200
"""Maximum number of modulators of a zone; FluidR3 has at most 4."""
MAX_SAMPLE_FRAMES = 1 << 24
"""Maximum length of a sample: six minutes at 44.1 kHz."""
MIN_SAMPLE_RATE_HZ, MAX_SAMPLE_RATE_HZ = 400, 192_000
MAX_CACHED_FRAMES = 1 << 26
"""Total length of the decoded samples that are kept per soundfont: 256 MiB."""
MAX_SAMPLE_LEVEL = 8.0
"""Maximum absolute value of a decoded sample; those of the bundled soundfont reach 1.3."""
VORBIS_FLAG = 0x10
FONT_HINT = "pass a complete .sf2 or .sf3 file with --soundfont"

RECORD_TYPES: Mapping[bytes, list[Any]] = {
    b"phdr": [("name", "S20"), ("program", "<u2"), ("bank", "<u2"), ("first", "<u2"),
              ("reserved", "<u4", 3)],
    b"inst": [("name", "S20"), ("first", "<u2")],
    b"pbag": [("generator", "<u2"), ("modulator", "<u2")],
    b"ibag": [("generator", "<u2"), ("modulator", "<u2")],
    b"pgen": [("type", "<u2"), ("amount", "<i2")],
    b"igen": [("type", "<u2"), ("amount", "<i2")],
    b"pmod": [("source", "<u2"), ("destination", "<u2"), ("amount", "<i2"),
              ("amount_source", "<u2"), ("transform", "<u2")],
    b"imod": [("source", "<u2"), ("destination", "<u2"), ("amount", "<i2"),
              ("amount_source", "<u2"), ("transform", "<u2")],
    b"shdr": [("name", "S20"), ("start", "<u4"), ("end", "<u4"), ("loop_start", "<u4"),
              ("loop_end", "<u4"), ("rate", "<u4"), ("pitch", "u1"), ("correction", "i1"),
              ("link", "<u2"), ("type", "<u2")],
}  # fmt: skip
"""Records of the chunks of ``pdta`` (section 7)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SampleData:
    """Decoded sample."""

    samples: Float32Array
    """``(samples,)``, full scale 1."""
    loop_start: int
    loop_end: int
    """First sample after the loop; equal to ``loop_start`` without a loop."""
    rate_hz: int
    pitch: int
    """MIDI pitch at the original rate."""
    correction_cents: int


class SoundFont:
    """Presets and samples of an open soundfont."""

    def __init__(self, path: Path) -> None:
        """Open a soundfont and check its structure; samples are decoded when needed.

        Raises:
            InputError: the file is missing, damaged, or not a soundfont.
        """
        self.path = path
        try:
            self._data = np.memmap(path, dtype=np.uint8, mode="r")
        except OSError as error:
            raise InputError(f"{path}: {error.strerror}", hint=FONT_HINT) from error
        except ValueError as error:  # an empty file
            raise self._error("the file is empty") from error
        chunks = self._read_chunks()
        try:
            self._records = {
                name: np.frombuffer(chunks[name].tobytes(), dtype=np.dtype(fields))
                for name, fields in RECORD_TYPES.items()
            }
            self._samples = chunks[b"smpl"]
        except KeyError as error:
            raise self._error(f"it has no chunk {error.args[0].decode()}") from error
        except ValueError as error:
            raise self._error("a chunk ends within a record") from error
        self._check_indices()
        heads = self._records[b"phdr"][:-1]
        self._presets: dict[tuple[int, int], int] = {}
        for index, preset in enumerate(
            zip(heads["bank"].tolist(), heads["program"].tolist(), strict=True)
        ):
            self._presets.setdefault(preset, index)  # the first is the active one (7.2)
        self.get_zones = lru_cache(maxsize=None)(self._read_zones)
        self._cached_samples: dict[int, SampleData] = {}

    def _error(self, problem: str) -> InputError:
        return InputError(f"cannot read soundfont {self.path}: {problem}", hint=FONT_HINT)

    def _read_chunks(self) -> dict[bytes, NDArray[np.uint8]]:
        """Return the content of the chunks in the lists ``sdta`` and ``pdta``."""
        data = self._data
        if len(data) < 12 or data[:4].tobytes() != b"RIFF" or data[8:12].tobytes() != b"sfbk":
            raise self._error("it is not a soundfont")
        chunks: dict[bytes, NDArray[np.uint8]] = {}
        for name, content in self._iterate_chunks(data[12:]):
            if name == b"LIST" and content[:4].tobytes() in (b"sdta", b"pdta"):
                chunks |= dict(self._iterate_chunks(content[4:]))
        return chunks

    def _iterate_chunks(
        self, data: NDArray[np.uint8]
    ) -> Iterator[tuple[bytes, NDArray[np.uint8]]]:
        position = 0
        while position + 8 <= len(data):
            size = int.from_bytes(data[position + 4 : position + 8].tobytes(), "little")
            end = position + 8 + size
            if end > len(data):
                raise self._error("it is truncated")
            yield data[position : position + 4].tobytes(), data[position + 8 : end]
            # sf3convert does not pad chunks of odd size.
            is_padded = size % 2 == 1 and end < len(data) and data[end] == 0
            position = end + is_padded

    def _check_indices(self) -> None:
        """Check that the records of each level refer to existing records of the next."""
        for owner, field, target in (
            (b"phdr", "first", b"pbag"),
            (b"inst", "first", b"ibag"),
            (b"pbag", "generator", b"pgen"),
            (b"ibag", "generator", b"igen"),
            (b"pbag", "modulator", b"pmod"),
            (b"ibag", "modulator", b"imod"),
        ):
            firsts = self._records[owner][field].astype(np.int64)
            n_targets = len(self._records[target])
            if not len(firsts) or (np.diff(firsts) < 0).any() or firsts[-1] > n_targets:
                raise self._error(f"the indices in chunk {owner.decode()} are invalid")

    def has_preset(self, bank: int, program: int) -> bool:
        """Return whether the soundfont has a preset; percussion is in bank 128."""
        return (bank, program) in self._presets

    def _read_zones(self, bank: int, program: int) -> tuple[Zone, ...]:
        """Return the zones of a preset.

        Raises:
            InputError: the preset is missing or damaged.
        """
        if not self.has_preset(bank, program):
            kind = "drum kit" if bank == DRUM_BANK else "program"
            raise self._error(f"it has no {kind} {program}")
        zones: list[Zone] = []
        instruments: dict[int, list[tuple[dict[int, int], tuple[Modulator, ...]]]] = {}
        for outer, outer_modulators in self._read_bags("p", self._presets[bank, program]):
            instrument = outer.get(Generator.INSTRUMENT, -1) & 0xFFFF
            if instrument >= len(self._records[b"inst"]) - 1:
                raise self._error("a preset refers to a missing instrument")
            if instrument not in instruments:
                instruments[instrument] = list(self._read_bags("i", instrument))
            for inner, inner_modulators in instruments[instrument]:
                if inner[Generator.SAMPLE] & 0xFFFF >= len(self._records[b"shdr"]) - 1:
                    raise self._error("an instrument refers to a missing sample")
                modulators = (*inner_modulators, *outer_modulators)
                zones.append(merge_zone(len(zones), inner, outer, modulators))
                if len(zones) > MAX_ZONES:
                    raise self._error(f"a preset has more than {MAX_ZONES} zones")
        return tuple(zones)

    def _read_bags(
        self, level: str, owner: int
    ) -> Iterator[tuple[dict[int, int], tuple[Modulator, ...]]]:
        """Yield the generators and modulators of each zone, with those of the global zone."""
        heads = self._records[b"phdr" if level == "p" else b"inst"]
        bags, generators, modulators = (
            self._records[f"{level}{name}".encode()] for name in ("bag", "gen", "mod")
        )
        last_type = Generator.INSTRUMENT if level == "p" else Generator.SAMPLE
        common: dict[int, int] = {}
        common_modulators = dict(DEFAULT_MODULATORS) if level == "i" else {}
        first, end = int(heads["first"][owner]), int(heads["first"][owner + 1])
        if end >= len(bags):
            raise self._error("a zone is missing")
        for bag in range(first, end):
            start, stop = (int(bags["generator"][k]) for k in (bag, bag + 1))
            rows = generators[start:stop]
            rows = rows[rows["type"] <= Generator.ROOT_KEY]
            amounts = common | dict(
                zip(rows["type"].tolist(), rows["amount"].tolist(), strict=True)
            )
            start, stop = (int(bags["modulator"][k]) for k in (bag, bag + 1))
            # A modulator replaces the one of the global zone with the same controllers.
            own = common_modulators | dict(
                parse_modulator(row) for row in modulators[start:stop].tolist()
            )
            if len(own) > MAX_MODULATORS:
                raise self._error(f"a zone has more than {MAX_MODULATORS} modulators")
            if last_type in amounts:
                yield amounts, tuple(m for m in own.values() if has_effect(m))
            elif bag == first:
                common, common_modulators = amounts, own

    def get_sample(self, index: int) -> SampleData:
        """Decode a sample; the latest ones are kept.

        Raises:
            InputError: the sample is damaged.
        """
        cache = self._cached_samples
        if index in cache:
            cache[index] = cache.pop(index)  # the latest is last
            return cache[index]
        sample = cache[index] = self._read_sample(index)
        n_frames = sum(len(cached.samples) for cached in cache.values())
        while n_frames > MAX_CACHED_FRAMES and len(cache) > 1:
            n_frames -= len(cache.pop(next(iter(cache))).samples)
        return sample

    def _read_sample(self, index: int) -> SampleData:
        head = self._records[b"shdr"][index]
        start, end = int(head["start"]), int(head["end"])
        loop_start, loop_end = int(head["loop_start"]), int(head["loop_end"])
        if head["type"] & VORBIS_FLAG:
            samples = self._decode_vorbis(start, end)
        else:
            if not start <= end <= len(self._samples) // 2 or end - start > MAX_SAMPLE_FRAMES:
                raise self._error(f"sample {index} has invalid limits")
            pcm = self._samples[2 * start : 2 * end].tobytes()
            samples = np.frombuffer(pcm, dtype="<i2").astype(np.float32) / np.float32(32768)
            loop_start, loop_end = loop_start - start, loop_end - start
        if not MIN_SAMPLE_RATE_HZ <= head["rate"] <= MAX_SAMPLE_RATE_HZ:
            raise self._error(f"sample {index} has a rate of {head['rate']} Hz")
        if not 0 <= loop_start < loop_end <= len(samples):
            loop_start = loop_end = 0
        return SampleData(
            samples=samples,
            loop_start=loop_start,
            loop_end=loop_end,
            rate_hz=int(head["rate"]),
            pitch=int(head["pitch"]) if head["pitch"] <= 127 else 60,
            correction_cents=int(head["correction"]),
        )

    def _decode_vorbis(self, start: int, end: int) -> Float32Array:
        if not start <= end <= len(self._samples):
            raise self._error("a sample is outside the file")
        stream = io.BytesIO(self._samples[start:end].tobytes())
        try:
            with soundfile.SoundFile(stream) as file:
                if file.channels != 1 or not 0 < file.frames <= MAX_SAMPLE_FRAMES:
                    raise self._error("a sample has an invalid length or channel count")
                samples: Float32Array = file.read(dtype="float32")
        except soundfile.LibsndfileError as error:
            raise self._error("a sample cannot be decoded") from error
        if not np.abs(samples).max(initial=0) <= MAX_SAMPLE_LEVEL:  # or NaN
            raise self._error("a sample has invalid values")
        return samples


@lru_cache(maxsize=2)
def load_soundfont(path: Path) -> SoundFont:
    """Open a soundfont, cached per process.

    Raises:
        InputError: the file is missing, damaged, or not a soundfont.
    """
    return SoundFont(path)
