"""Soundfont reader: samples, zones and modulators as written; damaged files are refused."""

import io
import struct
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from soundfonts import (
    GENERATOR_NUMBERS,
    Sample,
    Zone,
    build_chunks,
    encode_riff,
    encode_vorbis,
    write_soundfont,
)

from loris_cli.array_types import Array, Float32Array, Samples
from loris_cli.composition.arrangement import (
    DRUM_CHANNEL,
    INSTRUMENTS,
    LEAD_CHANNEL,
    TIMBRE_NOTES,
    Arrangement,
)
from loris_cli.composition.soundfont import (
    DRUM_BANK,
    MAX_MODULATORS,
    SoundFont,
    load_soundfont,
)
from loris_cli.composition.synthesizer import MAX_VOICES_PER_NOTE, synthesize
from loris_cli.composition.synthesizer_settings import BUILTIN_SOUNDFONT
from loris_cli.composition.synthesizer_voice import OPEN_FILTER_GAIN, render_waveform
from loris_cli.errors import InputError

pytestmark = pytest.mark.numpy1

RATE_HZ = 22_050
RNG = np.random.default_rng(3)
NOISE = Sample(
    waveform=np.round(RNG.uniform(-9000, 9000, 600)) / 32768,
    rate_hz=RATE_HZ,
    pitch=69,
    correction_cents=-7,
    loop=(100, 400),
)
TONE = Sample(
    waveform=0.5 * np.sin(2 * np.pi * 441 * np.arange(4410) / 44100),
    rate_hz=44_100,
    loop=(400, 4400),
)
VELOCITY, PITCH_BEND, KEY, NO_CONTROLLER, BREATH = 0x02, 0x0E, 0x03, 0x00, 0x82
NEGATIVE, BIPOLAR, CONCAVE, CONVEX, SWITCH = 0x100, 0x200, 0x400, 0x800, 0xC00

# Default, lowest and highest amount in the table of section 8.1.3.
TIME, PHASE, LFO_HZ, BEND, KEYED = (
    (-12000, -12000, 5000),
    (-12000, -12000, 8000),
    (0, -16000, 4500),
    (0, -12000, 12000),
    (0, -1200, 1200),
)
GENERATOR_RANGES = {
    "modLfoToPitch": BEND, "vibLfoToPitch": BEND, "modEnvToPitch": BEND,
    "initialFilterFc": (13500, 1500, 13500), "initialFilterQ": (0, 0, 960),
    "modLfoToFilterFc": BEND, "modEnvToFilterFc": BEND, "modLfoToVolume": (0, -960, 960),
    "pan": (0, -500, 500), "delayModLFO": TIME, "freqModLFO": LFO_HZ, "delayVibLFO": TIME,
    "freqVibLFO": LFO_HZ, "delayModEnv": TIME, "attackModEnv": PHASE, "holdModEnv": TIME,
    "decayModEnv": PHASE, "sustainModEnv": (0, 0, 1000), "keynumToModEnvHold": KEYED,
    "keynumToModEnvDecay": KEYED, "delayVolEnv": TIME, "attackVolEnv": PHASE,
    "holdVolEnv": TIME, "decayVolEnv": PHASE, "sustainVolEnv": (0, 0, 1440),
    "releaseVolEnv": PHASE, "keynumToVolEnvHold": KEYED, "keynumToVolEnvDecay": KEYED,
    "initialAttenuation": (0, 0, 1440), "coarseTune": (0, -120, 120),
    "fineTune": (0, -99, 99), "scaleTuning": (100, 0, 1200),
}  # fmt: skip


def read_amounts(font: SoundFont, velocity: int = 64) -> list[dict[str, int]]:
    """Amounts of the generators of each zone of program 0, by name."""
    names = {number: name for name, number in GENERATOR_NUMBERS.items()}
    return [
        {names[number]: amount for number, amount in zone.amounts_at(velocity).items()}
        for zone in font.get_zones(0, 0)
    ]


def open_font(
    path: Path, *zones: Zone, outer: Sequence[Zone] = (Zone(),), n_samples: int = 2
) -> SoundFont:
    """Soundfont whose program 0 has one instrument with the zones."""
    samples = [NOISE, TONE, NOISE][:n_samples]
    return SoundFont(write_soundfont(path / "font.sf2", samples, [zones], {(0, 0): outer}))


def play(font: SoundFont, *, pitch: int = 69, duration_s: float = 0.05) -> Samples:
    """Audio of a note with program 0, and of a drum 0.01 s later if there is a kit."""
    rows = [(0.0, duration_s / 2, 0, pitch, 100)]
    programs = {0: 0}
    if font.has_preset(DRUM_BANK, 0):
        rows.append((0.01, 0.01, DRUM_CHANNEL, pitch, 90))
        programs[DRUM_CHANNEL] = 0
    return synthesize(
        Arrangement(note_array=np.array(rows, dtype=np.float64), channel_programs=programs),
        font,
        duration_s=duration_s,
        rate_hz=RATE_HZ,
        n_channels=2,
    )


# Samples


def test_pcm_samples_are_read_exactly(tmp_path: Path) -> None:
    font = open_font(tmp_path, Zone())
    for index, written in enumerate((NOISE, TONE)):
        read = font.get_sample(index)
        expected = np.round(32768 * written.waveform) / 32768
        np.testing.assert_array_equal(read.samples, expected.astype(np.float32))
        assert (read.loop_start, read.loop_end) == written.loop
        assert (read.rate_hz, read.pitch) == (written.rate_hz, written.pitch)
        assert read.correction_cents == written.correction_cents


def test_vorbis_samples_equal_pcm_samples_except_for_compression(tmp_path: Path) -> None:
    pcm, vorbis = (
        SoundFont(write_soundfont(tmp_path / name, [TONE, NOISE], [[Zone()]], vorbis=is_vorbis))
        for name, is_vorbis in (("a.sf2", False), ("a.sf3", True))
    )
    for index, tolerance in ((0, 0.02), (1, 0.15)):
        first, second = pcm.get_sample(index), vorbis.get_sample(index)
        assert len(first.samples) == len(second.samples)
        np.testing.assert_allclose(first.samples, second.samples, atol=tolerance)
        assert (first.loop_start, first.loop_end) == (second.loop_start, second.loop_end)
    np.testing.assert_allclose(play(pcm), play(vorbis), atol=0.01)
    assert np.abs(play(pcm)).max() > 0.05


@pytest.mark.parametrize("loop", [(0, 0), (50, 50), (60, 50), (0, 601), (700, 800)])
def test_sample_with_an_invalid_loop_has_no_loop(tmp_path: Path, loop: tuple[int, int]) -> None:
    sample = replace(NOISE, loop=loop)
    font = SoundFont(write_soundfont(tmp_path / "font.sf2", [sample], [[Zone()]]))
    assert font.get_sample(0).loop_start == font.get_sample(0).loop_end
    assert len(font.get_sample(0).samples) == 600


def test_unpitched_sample_has_pitch_60(tmp_path: Path) -> None:
    sample = replace(NOISE, pitch=255)
    font = SoundFont(write_soundfont(tmp_path / "font.sf2", [sample], [[Zone()]]))
    assert font.get_sample(0).pitch == 60


@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("extra", [b"", b"\x01", b"\0"])
def test_chunks_of_odd_size_need_no_padding(tmp_path: Path, padded: bool, extra: bytes) -> None:
    chunks = build_chunks([TONE], [[Zone()]], {(0, 0): [Zone()]}, vorbis=True)
    path = tmp_path / "font.sf3"
    # An unknown chunk of three bytes precedes those of the presets.
    chunks = {b"tres": b"abc", **chunks, b"smpl": chunks[b"smpl"] + extra}
    path.write_bytes(encode_riff(chunks, padded=padded))
    np.testing.assert_allclose(SoundFont(path).get_sample(0).samples, TONE.waveform, atol=0.02)


# Zones


def test_zones_have_the_ranges_and_samples_written(tmp_path: Path) -> None:
    font = open_font(
        tmp_path,
        Zone(target=1, generators={"keyRange": (10, 59), "velRange": (1, 100)}),
        Zone(target=0, generators={"keyRange": (60, 60)}),
        Zone(target=0),
    )
    zones = font.get_zones(0, 0)
    assert [zone.pitches for zone in zones] == [range(10, 60), range(60, 61), range(128)]
    assert [zone.velocities for zone in zones] == [range(1, 101), range(128), range(128)]
    assert [amounts["sampleID"] for amounts in read_amounts(font)] == [1, 0, 0]
    assert [zone.index for zone in zones] == [0, 1, 2]


def test_generators_have_the_defaults_of_the_specification(tmp_path: Path) -> None:
    [amounts] = read_amounts(open_font(tmp_path, Zone()))
    assert {name: amounts[name] for name in GENERATOR_RANGES} == {
        name: default for name, (default, _, _) in GENERATOR_RANGES.items()
    }


def test_zone_replaces_the_values_of_the_global_zone(tmp_path: Path) -> None:
    font = open_font(
        tmp_path,
        Zone(target=None, generators={"pan": -100, "fineTune": 20, "keyRange": (0, 80)}),
        Zone(generators={"pan": 30}),
        Zone(generators={"keyRange": (81, 90), "fineTune": -5}),
    )
    assert [(a["pan"], a["fineTune"]) for a in read_amounts(font)] == [(30, 20), (-100, -5)]
    assert [z.pitches for z in font.get_zones(0, 0)] == [range(81), range(81, 91)]


def test_later_zone_without_a_sample_is_ignored(tmp_path: Path) -> None:
    font = open_font(
        tmp_path,
        Zone(generators={"pan": 7}),
        Zone(target=None, generators={"pan": 100, "fineTune": 9}),
        Zone(target=1),
    )
    assert [(a["pan"], a["fineTune"]) for a in read_amounts(font)] == [(7, 0), (0, 0)]


def test_preset_zone_adds_to_instrument_zones(tmp_path: Path) -> None:
    font = open_font(
        tmp_path,
        Zone(generators={"pan": 30, "coarseTune": 1, "keyRange": (20, 70)}),
        Zone(target=1, generators={"initialFilterFc": 9000, "velRange": (64, 127)}),
        outer=(
            Zone(target=None, generators={"pan": 100, "coarseTune": -12}),
            Zone(generators={"coarseTune": 5, "keyRange": (60, 90), "velRange": (0, 99)}),
            Zone(generators={"initialFilterFc": -1000}),
        ),
    )
    assert [(a["pan"], a["coarseTune"], a["initialFilterFc"]) for a in read_amounts(font)] == [
        (130, 6, 13500),
        (100, 5, 9000),
        (130, -11, 12500),
        (100, -12, 8000),
    ]
    zones = font.get_zones(0, 0)
    assert [z.pitches for z in zones] == [
        range(60, 71),
        range(60, 91),
        range(20, 71),
        range(128),
    ]
    assert [(z.velocities[0], z.velocities[-1]) for z in zones] == [
        (0, 99),
        (64, 99),
        (0, 127),
        (64, 127),
    ]


def test_disjoint_ranges_of_preset_and_instrument_are_empty(tmp_path: Path) -> None:
    font = open_font(
        tmp_path,
        Zone(generators={"keyRange": (0, 59)}),
        outer=(Zone(generators={"keyRange": (60, 127)}),),
    )
    assert not font.get_zones(0, 0)[0].pitches
    assert not play(font).any()


@pytest.mark.parametrize("name", GENERATOR_RANGES)
def test_sums_are_clipped_to_the_range_of_the_generator(tmp_path: Path, name: str) -> None:
    _, lowest, highest = GENERATOR_RANGES[name]
    font = open_font(
        tmp_path,
        Zone(generators={name: 16000}),
        Zone(generators={name: -20000}),
        Zone(generators={name: lowest}),
        Zone(generators={name: highest - 3}),
        outer=(Zone(generators={name: 1}),),
    )
    values = [amounts[name] for amounts in read_amounts(font)]
    assert values == [highest, lowest, lowest + 1, highest - 2]


def test_generators_of_instruments_are_ignored_in_presets(tmp_path: Path) -> None:
    names = (
        "startAddrsOffset", "endAddrsOffset", "startloopAddrsOffset", "endloopAddrsOffset",
        "startAddrsCoarseOffset", "endAddrsCoarseOffset", "startloopAddrsCoarseOffset",
        "endloopAddrsCoarseOffset", "keynum", "velocity", "sampleModes", "exclusiveClass",
        "overridingRootKey", "sampleID",
    )  # fmt: skip
    plain = read_amounts(open_font(tmp_path, Zone()))
    outer = Zone(generators=dict.fromkeys(names, 1))
    assert read_amounts(open_font(tmp_path, Zone(), outer=(outer,))) == plain


def test_first_of_two_presets_with_one_number_is_used(tmp_path: Path) -> None:
    chunks = build_chunks(
        [NOISE],
        [[Zone(generators={"pan": 10})], [Zone(generators={"pan": 20})]],
        {(0, 0): [Zone(target=0)], (0, 1): [Zone(target=1)]},
    )
    heads = bytearray(chunks[b"phdr"])
    heads[38 + 20 : 38 + 22] = bytes(2)  # the program of the second preset
    path = tmp_path / "font.sf2"
    path.write_bytes(encode_riff({**chunks, b"phdr": bytes(heads)}))
    assert read_amounts(SoundFont(path))[0]["pan"] == 10


def test_presets_are_found_by_bank_and_program(tmp_path: Path) -> None:
    instruments = [[Zone(generators={"pan": pan})] for pan in (1, 2, 3)]
    presets = {(0, 40): [Zone(target=1)], (DRUM_BANK, 0): [Zone(target=2)], (0, 0): [Zone()]}
    font = SoundFont(write_soundfont(tmp_path / "font.sf2", [NOISE], instruments, presets))
    pans = [
        font.get_zones(*number)[0].amounts[GENERATOR_NUMBERS["pan"]]
        for number in ((0, 0), (0, 40), (DRUM_BANK, 0))
    ]
    assert pans == [1, 2, 3]
    assert not font.has_preset(DRUM_BANK, 40)
    with pytest.raises(InputError):
        font.get_zones(0, 41)


@pytest.mark.parametrize(
    ("offsets", "first", "last"),
    [
        ({}, 0, 600),
        ({"startAddrsOffset": 50}, 50, 600),
        ({"endAddrsOffset": -100}, 0, 500),
        ({"startAddrsOffset": 20, "endAddrsOffset": -30}, 20, 570),
        ({"startAddrsOffset": -20, "endAddrsOffset": 30}, 0, 600),
        ({"startAddrsOffset": 900}, 599, 600),
        ({"endAddrsOffset": -700}, 0, 1),
        ({"endAddrsCoarseOffset": -1}, 0, 1),
        ({"startAddrsCoarseOffset": 1, "startAddrsOffset": -32738}, 30, 600),
    ],
)
def test_address_offsets_move_the_ends_of_a_sample(
    tmp_path: Path, offsets: dict[str, int], first: int, last: int
) -> None:
    sample = replace(NOISE, correction_cents=0)
    path = write_soundfont(tmp_path / "a.sf2", [sample], [[Zone(generators=offsets)]])
    np.testing.assert_allclose(
        render_at_root(SoundFont(path), 700), NOISE.waveform[first:last], atol=1e-6
    )


@pytest.mark.parametrize(
    ("offsets", "loop"),
    [
        ({}, (100, 400)),
        ({"startloopAddrsOffset": 20, "endloopAddrsOffset": -50}, (120, 350)),
        ({"startloopAddrsOffset": -20, "endloopAddrsOffset": 50}, (80, 450)),
        (
            {"startloopAddrsCoarseOffset": 1, "startloopAddrsOffset": -32758,
             "endloopAddrsCoarseOffset": -1, "endloopAddrsOffset": 32760},
            (110, 392),
        ),
        ({"startAddrsOffset": 30}, (100, 400)),
    ],
)  # fmt: skip
def test_address_offsets_move_the_loop_of_a_sample(
    tmp_path: Path, offsets: dict[str, int], loop: tuple[int, int]
) -> None:
    sample = replace(NOISE, correction_cents=0)
    zone = Zone(generators={"sampleModes": 1, **offsets})
    path = write_soundfont(tmp_path / "font.sf2", [sample], [[zone]])
    expected = np.concatenate(
        [
            NOISE.waveform[offsets.get("startAddrsOffset", 0) : loop[1]],
            np.tile(NOISE.waveform[slice(*loop)], 10),
        ]
    )
    np.testing.assert_allclose(
        render_at_root(SoundFont(path), 2000), expected[:2000], atol=1e-6
    )


def render_at_root(font: SoundFont, n_samples: int) -> Float32Array:
    """Waveform of the first zone at the pitch and rate of its sample, gain 1."""
    waveform = render_waveform(
        font.get_zones(0, 0)[0].amounts,
        font.get_sample,
        pitch=NOISE.pitch,
        n_samples=n_samples,
        rate_hz=NOISE.rate_hz,
    )
    return waveform / np.float32(OPEN_FILTER_GAIN)


# Modulators


def evaluate_modulator(path: Path, source: int, velocity: int, amount_source: int = 0) -> int:
    """Change of a generator by a modulator with an amount of 10,000."""
    modulator = (source, "modEnvToPitch", 10_000, amount_source)
    font = open_font(path, Zone(modulators=[modulator]))
    return read_amounts(font, velocity)[0]["modEnvToPitch"]


def concave(value: Array) -> Array:
    """Concave curve over 96 dB of the square of the amplitude, 0..1."""
    level = -20 / 96 * np.log10(((127 - np.minimum(value, 126.9)) / 127) ** 2)
    return np.asarray(np.where(value == 127, 1.0, level))


CURVES: dict[str, tuple[int, Callable[[Array], Array]]] = {
    "linear": (0, lambda v: v / 128),
    "negative linear": (NEGATIVE, lambda v: (127 - v) / 128),
    "bipolar linear": (BIPOLAR, lambda v: v / 64 - 1),
    "negative bipolar linear": (NEGATIVE | BIPOLAR, lambda v: (127 - v) / 64 - 1),
    "concave": (CONCAVE, concave),
    "negative concave": (CONCAVE | NEGATIVE, lambda v: concave(127 - v)),
    "convex": (CONVEX, lambda v: 1 - concave(127 - v)),
    "negative convex": (CONVEX | NEGATIVE, lambda v: 1 - concave(v)),
    "switch": (SWITCH, lambda v: np.where(v >= 64, 1.0, 0.0)),
    "negative switch": (SWITCH | NEGATIVE, lambda v: np.where(v <= 63, 1.0, 0.0)),
    "bipolar concave": (
        CONCAVE | BIPOLAR,
        lambda v: np.sign(v - 64) * concave(np.abs(2 * v - 128).clip(max=127)),
    ),
    "bipolar convex": (
        CONVEX | BIPOLAR,
        lambda v: np.sign(v - 64) * (1 - concave((127 - np.abs(2 * v - 128)).clip(0))),
    ),
    "bipolar switch": (SWITCH | BIPOLAR, lambda v: np.where(v >= 64, 1.0, -1.0)),
}


@pytest.mark.parametrize("name", CURVES)
def test_modulators_follow_the_curves_of_the_specification(tmp_path: Path, name: str) -> None:
    flags, curve = CURVES[name]
    velocities = np.array([1, 2, 40, 63, 64, 100, 126, 127])
    values = [evaluate_modulator(tmp_path, VELOCITY | flags, v) for v in velocities.tolist()]
    np.testing.assert_allclose(values, 10_000 * curve(velocities.astype(float)), atol=0.5001)


def test_curves_have_known_values_at_velocity_64(tmp_path: Path) -> None:
    values = [
        evaluate_modulator(tmp_path, VELOCITY | flags, 64)
        for flags in (0, CONCAVE, CONVEX, SWITCH)
    ]
    # 20 log10((127 / 63)^2) = 12.18 dB and 20 log10((127 / 64)^2) = 11.91 dB, of 96 dB.
    assert values == [5000, 1269, 8760, 10_000]


def test_amount_source_scales_the_amount(tmp_path: Path) -> None:
    value = evaluate_modulator(tmp_path, VELOCITY, 32, amount_source=VELOCITY | NEGATIVE)
    assert value == round(10_000 * 32 / 128 * 95 / 128)


@pytest.mark.parametrize(
    ("source", "amount_source"),
    [
        (NO_CONTROLLER, 0),
        (KEY, 0),
        (PITCH_BEND, 0),
        (BREATH, 0),
        (VELOCITY, KEY),
        (VELOCITY, BREATH),
        (VELOCITY | 4 << 10, 0),
    ],
)
def test_modulators_by_other_controllers_are_ignored(
    tmp_path: Path, source: int, amount_source: int
) -> None:
    assert evaluate_modulator(tmp_path, source, 100, amount_source) == 0


def test_modulator_replaces_that_of_the_global_zone(tmp_path: Path) -> None:
    common = [(VELOCITY, "fineTune", 64, 0), (VELOCITY, "coarseTune", 20, 0)]
    font = open_font(
        tmp_path,
        Zone(target=None, modulators=common),
        Zone(),
        Zone(modulators=[(VELOCITY, "fineTune", -32, 0)]),
        Zone(modulators=[(VELOCITY, "fineTune", 0, 0)]),
        Zone(modulators=[(VELOCITY | NEGATIVE, "fineTune", 16, 0)]),
    )
    amounts = read_amounts(font)
    assert [a["fineTune"] for a in amounts] == [32, -16, 0, 32 + round(16 * 63 / 128)]
    assert [a["coarseTune"] for a in amounts] == [10] * 4


def test_modulators_of_a_preset_add_to_those_of_the_instrument(tmp_path: Path) -> None:
    font = open_font(
        tmp_path,
        Zone(generators={"pan": 100}, modulators=[(VELOCITY, "pan", 200, 0)]),
        outer=(Zone(modulators=[(VELOCITY, "pan", 60, 0)]),),
    )
    assert read_amounts(font)[0]["pan"] == 100 + 100 + 30


def test_modulated_amount_is_clipped(tmp_path: Path) -> None:
    zone = Zone(
        generators={"initialFilterFc": 2000},
        modulators=[(VELOCITY, "initialFilterFc", -8000, 0)],
    )
    assert read_amounts(open_font(tmp_path, zone))[0]["initialFilterFc"] == 1500


# The bundled soundfont


def test_bundled_soundfont_has_a_zone_for_every_note_except_13() -> None:
    font = load_soundfont(BUILTIN_SOUNDFONT)
    missing = [
        (channel, program, pitch)
        for channel, program, pitch in TIMBRE_NOTES
        if not has_zones(font, channel, program, pitch)
    ]
    # FluidR3 has no samples above the range of the tenor saxophone and of the violin.
    assert missing == [
        (LEAD_CHANNEL, 40, 94),
        *((LEAD_CHANNEL, 65, pitch) for pitch in range(85, 97)),
    ]
    assert {(channel, program) for channel, program, _ in TIMBRE_NOTES} == set(INSTRUMENTS)


def has_zones(font: SoundFont, channel: int, program: int, pitch: int) -> bool:
    """Return whether a note sounds at all velocities."""
    zones = font.get_zones(DRUM_BANK if channel == DRUM_CHANNEL else 0, program)
    sounding = [zone.velocities for zone in zones if pitch in zone.pitches]
    return set().union(*sounding) >= set(range(1, 128))


@pytest.mark.slow
def test_every_sample_of_the_bundled_soundfont_can_be_decoded() -> None:
    font = SoundFont(BUILTIN_SOUNDFONT)
    n_samples = 0
    indices = {
        zone.amounts[GENERATOR_NUMBERS["sampleID"]]
        for channel, program in INSTRUMENTS
        for zone in font.get_zones(DRUM_BANK if channel == DRUM_CHANNEL else 0, program)
    }
    for index in indices:
        sample = font.get_sample(index)
        assert 0.01 < np.abs(sample.samples).max() < 1.5
        n_samples += 1
    assert n_samples > 500


# Damaged and hostile files

SMALL_NOISE = replace(NOISE, waveform=NOISE.waveform[:120], loop=(20, 90))
SMALL_TONE = replace(TONE, waveform=TONE.waveform[:300], loop=(100, 250))
CHUNKS = build_chunks(
    [SMALL_NOISE, SMALL_TONE],
    [
        [
            Zone(target=None, generators={"sampleModes": 1, "modLfoToPitch": 30}),
            Zone(
                generators={"keyRange": (0, 80), "initialFilterFc": 9000, "modEnvToPitch": 900},
                modulators=[(VELOCITY, "initialFilterFc", -2000, 0)],
            ),
        ],
        [Zone(target=1, generators={"exclusiveClass": 1, "endAddrsOffset": -10})],
    ],
    {(0, 0): [Zone()], (DRUM_BANK, 0): [Zone(target=1)]},
)
VORBIS_CHUNKS = build_chunks(
    [replace(TONE, waveform=TONE.waveform[:1000], loop=(100, 900))],
    [[Zone(generators={"sampleModes": 1})]],
    {(0, 0): [Zone()]},
    vorbis=True,
)
FONTS = {"pcm": encode_riff(CHUNKS), "vorbis": encode_riff(VORBIS_CHUNKS)}
CHUNK_NAMES = sorted({*CHUNKS, b"LIST"})


def read_and_play(path: Path, data: bytes) -> Samples:
    """Audio of a soundfont; raises `InputError` if it is damaged."""
    path.write_bytes(data)
    return play(SoundFont(path))


def assert_refused_or_finite(path: Path, data: bytes) -> None:
    try:
        audio = read_and_play(path, data)
    except InputError:
        return
    assert np.abs(audio).max() < 1000


def replace_bytes(data: bytes, position: int, content: bytes) -> bytes:
    """Overwrite bytes at a position, counted modulo the length."""
    position %= len(data)
    return data[:position] + content + data[position + len(content) :]


@pytest.mark.parametrize("name", FONTS)
def test_undamaged_fonts_of_these_tests_are_audible(tmp_path: Path, name: str) -> None:
    assert np.abs(read_and_play(tmp_path / "font", FONTS[name])).max() > 0.01


def test_soundfont_truncated_anywhere_is_an_input_error(tmp_path: Path) -> None:
    data = FONTS["pcm"]
    for n_bytes in range(0, len(data), 11):
        with pytest.raises(InputError):
            read_and_play(tmp_path / "font.sf2", data[:n_bytes])


@pytest.mark.slow
@pytest.mark.parametrize("name", FONTS)
@settings(
    deadline=None,
    max_examples=400,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    edits=st.lists(
        st.tuples(st.integers(0, 1 << 20), st.binary(min_size=1, max_size=4)),
        min_size=1,
        max_size=5,
    )
)
def test_damaged_soundfont_is_refused_or_audio_is_finite(
    tmp_path: Path, name: str, edits: list[tuple[int, bytes]]
) -> None:
    data = FONTS[name]
    for position, content in edits:
        data = replace_bytes(data, position, content)
    assert_refused_or_finite(tmp_path / "font", data)


SLOW_VALUES = [pytest.param(value, marks=pytest.mark.slow) for value in (0, 0x7FFF, 0x8000)]


@pytest.mark.parametrize("value", [0xFFFF, *SLOW_VALUES])
def test_extreme_records_are_refused_or_audio_is_finite(tmp_path: Path, value: int) -> None:
    """Every field of two bytes in the records is set to an extreme value."""
    for name, content in CHUNKS.items():
        for position in range(0, len(content) if name != b"smpl" else 0, 2):
            damaged = replace_bytes(content, position, value.to_bytes(2, "little"))
            assert_refused_or_finite(
                tmp_path / "font.sf2", encode_riff({**CHUNKS, name: damaged})
            )


@pytest.mark.parametrize("name", CHUNK_NAMES)
@pytest.mark.parametrize("size", [2**32 - 1, 2**31])
def test_chunk_larger_than_the_file_is_an_input_error(
    tmp_path: Path, name: bytes, size: int
) -> None:
    data = FONTS["pcm"]
    with pytest.raises(InputError):
        read_and_play(
            tmp_path / "font.sf2",
            replace_bytes(data, data.index(name) + 4, size.to_bytes(4, "little")),
        )


# There are no modulators of presets; their chunk may be empty.
@pytest.mark.parametrize("name", [name for name in CHUNKS if name != b"pmod"])
def test_missing_or_empty_chunk_is_an_input_error(tmp_path: Path, name: bytes) -> None:
    without = {other: content for other, content in CHUNKS.items() if other != name}
    for chunks in (without, {**CHUNKS, name: b""}):
        with pytest.raises(InputError):
            read_and_play(tmp_path / "font.sf2", encode_riff(chunks))


@pytest.mark.parametrize("name", [name for name in CHUNKS if name != b"smpl"])
def test_chunk_that_ends_within_a_record_is_an_input_error(tmp_path: Path, name: bytes) -> None:
    with pytest.raises(InputError):
        read_and_play(
            tmp_path / "font.sf2", encode_riff({**CHUNKS, name: CHUNKS[name] + b"\1"})
        )


# Fields of a record of ``shdr``: position and limits.
START, END, LOOP_START, RATE = 20, 24, 28, 36


@pytest.mark.parametrize("vorbis", [False, True])
@pytest.mark.parametrize(
    ("position", "value"),
    [
        (START, 2**32 - 1),
        (START, 500_000),
        (END, 2**32 - 1),
        (END, 500_000),
        (RATE, 0),
        (RATE, 1),
        (RATE, 2**32 - 1),
    ],
)
def test_sample_with_absurd_limits_or_rate_is_an_input_error(
    tmp_path: Path, vorbis: bool, position: int, value: int
) -> None:
    chunks = VORBIS_CHUNKS if vorbis else CHUNKS
    heads = replace_bytes(chunks[b"shdr"], position, value.to_bytes(4, "little"))
    with pytest.raises(InputError):
        read_and_play(tmp_path / "font", encode_riff({**chunks, b"shdr": heads}))


def test_sample_that_ends_after_the_chunk_is_an_input_error(tmp_path: Path) -> None:
    n_points = len(CHUNKS[b"smpl"]) // 2
    for end, is_valid in ((n_points, True), (n_points + 1, False)):
        heads = replace_bytes(CHUNKS[b"shdr"], END, end.to_bytes(4, "little"))
        data = encode_riff({**CHUNKS, b"shdr": heads})
        if is_valid:
            assert read_and_play(tmp_path / "font.sf2", data).any()
        else:
            with pytest.raises(InputError):
                read_and_play(tmp_path / "font.sf2", data)


@pytest.mark.parametrize("name", [b"pbag", b"ibag"])
@pytest.mark.parametrize("position", [0, 2])
def test_decreasing_indices_are_an_input_error(
    tmp_path: Path, name: bytes, position: int
) -> None:
    bags = replace_bytes(CHUNKS[name], position, b"\xff\0")
    with pytest.raises(InputError):
        read_and_play(tmp_path / "font.sf2", encode_riff({**CHUNKS, name: bags}))


def test_loop_outside_its_sample_is_not_used(tmp_path: Path) -> None:
    heads = replace_bytes(CHUNKS[b"shdr"], LOOP_START, struct.pack("<2I", 0, 2**32 - 1))
    audio = read_and_play(tmp_path / "font.sf2", encode_riff({**CHUNKS, b"shdr": heads}))
    assert audio[:, :100].any()
    assert not audio[:, 400:].any()


def encode_as(waveform: Array, **options: str) -> bytes:
    """Encode a waveform in a format of libsndfile."""
    buffer = io.BytesIO()
    soundfile.write(buffer, waveform, 44_100, **options)
    return buffer.getvalue()


SINE = TONE.waveform[:1000]
NO_NUMBERS = np.full(1000, np.nan)


@pytest.mark.parametrize(
    "stream",
    [
        pytest.param(encode_vorbis(np.stack([SINE, SINE], axis=1), 44_100), id="stereo"),
        pytest.param(encode_vorbis(SINE, 44_100)[:200], id="truncated"),
        pytest.param(b"OggS" + bytes(400), id="damaged"),
        pytest.param(bytes(400), id="zeros"),
        pytest.param(b"", id="empty"),
        pytest.param(encode_vorbis(SINE[:0], 44_100), id="no samples"),
        pytest.param(encode_as(NO_NUMBERS, format="WAV", subtype="FLOAT"), id="not a number"),
    ],
)
def test_invalid_vorbis_sample_is_an_input_error(tmp_path: Path, stream: bytes) -> None:
    heads = replace_bytes(VORBIS_CHUNKS[b"shdr"], START, struct.pack("<2I", 0, len(stream)))
    chunks = {**VORBIS_CHUNKS, b"smpl": stream, b"shdr": heads}
    with pytest.raises(InputError):
        read_and_play(tmp_path / "font.sf3", encode_riff(chunks))


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"Dear reader, this is no soundfont.\n" * 20, id="text"),
        pytest.param(b"RIFF\x04\0\0\0sfbk", id="no chunks"),
        pytest.param(encode_as(SINE, format="WAV"), id="another RIFF file"),
        pytest.param(FONTS["pcm"][:4] + bytes(len(FONTS["pcm"])), id="zeros"),
    ],
)
def test_file_that_is_not_a_soundfont_is_an_input_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "font.sf2"
    path.write_bytes(content)
    with pytest.raises(InputError):
        load_soundfont(path)


def test_folder_and_missing_file_are_input_errors(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing.sf2", tmp_path / "missing" / "font.sf2"):
        with pytest.raises(InputError):
            load_soundfont(path)


def test_references_to_missing_records_are_input_errors(tmp_path: Path) -> None:
    for instruments, presets in (
        ([[Zone(target=2)]], [Zone()]),
        ([[Zone(target=-1)]], [Zone()]),
        ([[Zone()]], [Zone(target=1)]),
        ([[Zone()]], [Zone(target=-1)]),
    ):
        chunks = build_chunks([NOISE, TONE], instruments, {(0, 0): presets})
        with pytest.raises(InputError):
            read_and_play(tmp_path / "font.sf2", encode_riff(chunks))


def write_zone_bomb(path: Path, n_outer: int, inner: Sequence[Zone]) -> SoundFont:
    """Soundfont whose preset has many zones that all refer to one instrument."""
    outer = [Zone()] * n_outer
    return SoundFont(
        write_soundfont(path / "bomb.sf2", [SMALL_NOISE], [inner], {(0, 0): outer})
    )


def test_preset_with_too_many_zones_is_an_input_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loris_cli.composition.soundfont.MAX_ZONES", 400)
    assert len(write_zone_bomb(tmp_path, 20, [Zone()] * 20).get_zones(0, 0)) == 400
    font = write_zone_bomb(tmp_path, 20, [Zone()] * 21)
    with pytest.raises(InputError):
        font.get_zones(0, 0)


def test_instrument_without_samples_is_read_once(tmp_path: Path) -> None:
    # Reading the zones for each reference would take minutes.
    font = write_zone_bomb(tmp_path, 10_000, [Zone(target=None)] * 10_000)
    assert font.get_zones(0, 0) == ()
    assert not play(font).any()


def test_zone_with_too_many_modulators_is_an_input_error(tmp_path: Path) -> None:
    modulators = [
        (VELOCITY | flags << 8, name, 1, VELOCITY | amount_flags << 8)
        for name in GENERATOR_RANGES
        for flags in range(16)
        for amount_flags in range(16)
    ]
    common = Zone(target=None, modulators=modulators)
    font = write_zone_bomb(tmp_path, 1, [common, Zone()])
    assert len(modulators) > MAX_MODULATORS
    with pytest.raises(InputError):
        font.get_zones(0, 0)


def test_note_with_too_many_voices_is_an_input_error(tmp_path: Path) -> None:
    font = write_zone_bomb(tmp_path, 1, [Zone()] * MAX_VOICES_PER_NOTE)
    assert play(font).any()
    font = write_zone_bomb(tmp_path, 1, [Zone()] * (MAX_VOICES_PER_NOTE + 1))
    with pytest.raises(InputError):
        play(font)


@pytest.mark.slow
def test_memory_is_bounded_for_a_loop_at_the_highest_pitch(tmp_path: Path) -> None:
    sample = replace(SMALL_NOISE, rate_hz=192_000, pitch=0)
    zone = Zone(generators={"sampleModes": 1, "coarseTune": 120})
    font = SoundFont(write_soundfont(tmp_path / "font.sf2", [sample], [[zone]]))
    n_samples = 20 * RATE_HZ
    tracemalloc.start()
    try:
        audio = play(font, pitch=127, duration_s=n_samples / RATE_HZ)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert audio[:, : n_samples // 2].any(axis=0).all()
    assert peak_bytes < 100 * n_samples


def test_cache_of_decoded_samples_has_a_size_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loris_cli.composition.soundfont.MAX_CACHED_FRAMES", 1300)
    font = open_font(tmp_path, Zone(), n_samples=1)
    path = write_soundfont(tmp_path / "more.sf2", [NOISE] * 3, [[Zone()]])
    font = SoundFont(path)
    first = font.get_sample(0)
    assert font.get_sample(1) is not first
    assert font.get_sample(0) is first  # now the latest
    font.get_sample(2)
    assert font.get_sample(0) is first
    font.get_sample(1)
    font.get_sample(2)
    assert font.get_sample(0) is not first
