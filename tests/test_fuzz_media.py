"""Damaged and hostile media files: a part of the mutation corpus of `tools/fuzz_media.py`."""

import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Literal

import pytest
from media import make_tone, write_video

from loris_cli.errors import InputError
from loris_cli.video.audio_track import read_audio
from loris_cli.video.frames import read_frames
from loris_cli.video.probe import probe_video
from loris_cli.video.retiming import write_retimed_copy

TOOLS = Path(__file__).parents[1] / "tools"
sys.path.insert(0, str(TOOLS))
import fuzz_media  # noqa: E402
from fuzz_layouts import find_layout  # noqa: E402
from fuzz_mutations import (  # noqa: E402
    CONTAINERS,
    MUTATIONS,
    mutate,
    repair_ogg_checksums,
    write_corpus,
)
from fuzz_worker import check_file, write_audio  # noqa: E402

SEEDS_IN_SUITE = 2
MAX_SECONDS = 20.0


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.mark.slow
@pytest.mark.parametrize("container", CONTAINERS)
def test_damaged_files_give_a_result_or_an_error(
    corpus: dict[str, Path], container: str
) -> None:
    names = fuzz_media.list_cases([container], n_seeds=SEEDS_IN_SUITE)
    outcomes = list(fuzz_media.run_cases([f"{container}:none:0", *names], corpus))
    assert [outcome.name for outcome in outcomes[1:]] == names
    assert outcomes[0].exit_code == 0
    assert {outcome.exit_code for outcome in outcomes} <= {0, 1, 4}
    assert {o.name: o.problems for o in outcomes if o.problems} == {}


def replace_times(source: Path, fields: slice, value: int) -> bytes:
    """Return the bytes of a file in which some fields of `Layout.times` have another value."""
    data = bytearray(source.read_bytes())
    for field in find_layout(source.suffix, bytes(data)).times[fields]:
        order: Literal["little", "big"] = "little" if field.is_little_endian else "big"
        data[field.at : field.at + field.size] = value.to_bytes(field.size, order)
    return bytes(data)


def check_copy(folder: Path, name: str, data: bytes, *, seed: int) -> None:
    """Check that a file is read and copied with rising times and equal frames."""
    path = folder / "case" / name
    path.parent.mkdir()
    path.write_bytes(data)
    write_audio(folder)
    found = check_file(path, seed=seed)
    assert found.problems == []
    assert found.exit_code == 0


def test_repeated_times_rise_in_the_output(tmp_path: Path) -> None:
    source = write_corpus(tmp_path, ["wmv"])["wmv"]
    n_times = len(find_layout(".wmv", source.read_bytes()).times)
    data = replace_times(source, slice(n_times // 2, n_times // 2 + 8), 400)
    check_copy(tmp_path, "repeated.wmv", data, seed=1)


def test_a_lost_first_key_frame_leaves_the_times_of_the_others(tmp_path: Path) -> None:
    source = write_corpus(tmp_path, ["ts"])["ts"]
    check_copy(tmp_path, "cut.ts", mutate(source, "resized-chunks", 42), seed=0)


@pytest.mark.parametrize("container", ["gif", "ogv", "webm", "wmv"])
def test_any_codec_can_be_copied_with_repaired_times(tmp_path: Path, container: str) -> None:
    source = write_corpus(tmp_path, [container])[container]
    copy = tmp_path / "copy.nut"
    write_retimed_copy(source, copy)
    times_s = [[frame.time_s for frame in read_frames(path)] for path in (source, copy)]
    assert times_s[0] == pytest.approx(times_s[1])


def test_times_near_the_limit_of_64_bits_are_ignored(tmp_path: Path) -> None:
    source = write_corpus(tmp_path, ["ogv"])["ogv"]
    path = tmp_path / "late.ogv"
    for value in (2**63 - 1, 2**62, 2**63):
        path.write_bytes(
            repair_ogg_checksums(bytearray(replace_times(source, slice(5, 6), value)))
        )
        assert probe_video(path).duration_s < 10
        samples = read_audio(path, rate_hz=8000)
        assert samples is None or samples.shape[1] < 80_000


def test_a_jump_of_the_audio_clock_adds_no_hours_of_silence(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", sound=make_tone(1.2, 440, 0.5), audio_start_s=50_000)
    samples = read_audio(path, rate_hz=8000)
    assert samples is not None
    assert samples.shape[1] == pytest.approx(1.2 * 8000, abs=400)


@pytest.mark.parametrize("rate_hz", [1, 1_000_000_000])
def test_impossible_sample_rates_are_refused(tmp_path: Path, rate_hz: int) -> None:
    path = tmp_path / "a.wav"
    write_wav_header(rate_hz, 1)(path, {})
    with pytest.raises(InputError):
        read_audio(path, rate_hz=22_050)


@pytest.mark.parametrize(("rate", "is_refused"), [(960, False), (1_000_000, True)])
def test_frame_rates_beyond_milliseconds_are_refused(
    tmp_path: Path, rate: int, is_refused: bool
) -> None:
    path = tmp_path / "a.y4m"
    write_y4m_rate(b"%d:1" % rate)(path, {})
    with pytest.raises(InputError) if is_refused else nullcontext():
        assert probe_video(path).fps == pytest.approx(rate)


def write_large_gif(path: Path, corpus: dict[str, Path]) -> None:
    data = bytearray(corpus["gif"].read_bytes())
    data[6:10] = struct.pack("<HH", 60_000, 60_000)
    path.write_bytes(data)


def write_large_png(path: Path, corpus: dict[str, Path]) -> None:
    chunks = [b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)]
    chunks.append(b"acTL" + struct.pack(">II", 2, 0))
    for n in range(2):
        chunks.append(b"fcTL" + struct.pack(">IIIIIHHBB", n, 60_000, 60_000, 0, 0, 1, 25, 0, 0))
        chunks.append(b"IDAT" + zlib.compress(bytes(1000)))
    frames = (
        struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(frames))


def write_large_y4m(path: Path, corpus: dict[str, Path]) -> None:
    path.write_bytes(b"YUV4MPEG2 W60000 H60000 F25:1 Ip A1:1 C420jpeg\nFRAME\n" + bytes(5000))


def write_y4m_rate(rate: bytes) -> Callable[[Path, dict[str, Path]], None]:
    def write(path: Path, corpus: dict[str, Path]) -> None:
        frame = b"FRAME\n" + bytes(96 * 64 * 3 // 2)
        path.write_bytes(b"YUV4MPEG2 W96 H64 F" + rate + b" Ip A1:1 C420jpeg\n" + 25 * frame)

    return write


def write_wav_header(rate_hz: int, n_channels: int) -> Callable[[Path, dict[str, Path]], None]:
    def write(path: Path, corpus: dict[str, Path]) -> None:
        block = 2 * n_channels
        form = struct.pack("<HHIIHH", 1, n_channels, rate_hz, rate_hz, block % 65_536, 16)
        data = b"fmt \x10\0\0\0" + form + b"data" + struct.pack("<I", 400_000) + bytes(400_000)
        path.write_bytes(b"RIFF" + struct.pack("<I", 4 + len(data)) + b"WAVE" + data)

    return write


def write_many_matroska_tracks(path: Path, corpus: dict[str, Path]) -> None:
    entry = bytes.fromhex("d7810183810186855f5650380000")[:9] + b"\x86\x85V_VP8"
    entries = b"".join(
        b"\xae" + bytes([0x80 | 15 + len(entry)]) + b"\x73\xc5\x84" + struct.pack(">I", n + 1)
        + entry + b"\xe0\x86\xb0\x81\x60\xba\x81\x40"
        for n in range(1_000_000)
    )  # fmt: skip
    head = bytes.fromhex("1a45dfa38b4282886d6174726f736b61")
    tracks = bytes.fromhex("1654ae6b08")[:4] + b"\x01" + len(entries).to_bytes(7)
    path.write_bytes(head + bytes.fromhex("1853806701ffffffffffffff") + tracks + entries)


def write_many_mp4_tracks(path: Path, corpus: dict[str, Path]) -> None:
    data = corpus["fmp4"].read_bytes()
    chunks = find_layout(".mp4", data).chunks
    moov, track = (
        next((a, b) for a, b in chunks if data[a + 4 : a + 8] == kind)
        for kind in (b"moov", b"trak")
    )
    tracks = 30_000 * data[slice(*track)]
    size = moov[1] - moov[0] + len(tracks)
    start = data[: moov[0]] + size.to_bytes(4) + data[moov[0] + 4 : moov[1]]
    path.write_bytes(start + tracks + data[moov[1] :])


def patch_riff(name: bytes, at: int, value: int) -> Callable[[Path, dict[str, Path]], None]:
    """Return a writer that changes a number of the last stream of the AVI file."""

    def write(path: Path, corpus: dict[str, Path]) -> None:
        data = bytearray(corpus["avi"].read_bytes())
        start = data.find(name) if at < 0 else data.rfind(name, 0, data.find(b"movi"))
        start += 8 + abs(at)
        data[start : start + 4] = value.to_bytes(4, "little")
        path.write_bytes(data)

    return write


HOSTILE_FILES = {
    "large.gif": write_large_gif,
    "large.png": write_large_png,
    "large.y4m": write_large_y4m,
    "no-rate.y4m": write_y4m_rate(b"0:0"),
    "fast.y4m": write_y4m_rate(b"2000000000:1"),
    "years.y4m": write_y4m_rate(b"1:200000000"),
    "tracks.mkv": write_many_matroska_tracks,
    "tracks.mp4": write_many_mp4_tracks,
    "sample-rate.avi": patch_riff(b"strf", 4, 1_000_000_000),
    "sample-rate.wav": write_wav_header(1_000_000_000, 1),
    "slow-sample-rate.wav": write_wav_header(1, 1),
    "channels.wav": write_wav_header(44_100, 65_535),
    "no-sample-rate.avi": patch_riff(b"strf", 4, 0),
    "audio-clock.avi": patch_riff(b"strh", 24, 1),
    "channels.avi": patch_riff(b"strf", 2, 65_535 | 44_100 << 16),
    "slow.avi": patch_riff(b"strh", -20, 4_000_000_000),
    "fast.avi": patch_riff(b"strh", -24, 4_000_000_000),
    "no-scale.avi": patch_riff(b"strh", -20, 0),
    "late.avi": patch_riff(b"strh", -28, 2_000_000_000),
}


@pytest.mark.slow
def test_hostile_headers_take_neither_time_nor_memory(
    corpus: dict[str, Path], tmp_path: Path
) -> None:
    sources = {name: tmp_path / name for name in HOSTILE_FILES}
    for name, path in sources.items():
        HOSTILE_FILES[name](path, corpus)
    names = [f"{name}:none:0" for name in HOSTILE_FILES]
    outcomes = list(fuzz_media.run_cases(names, sources, timeout_s=MAX_SECONDS))
    assert {o.name: o.problems for o in outcomes if o.problems} == {}
    codes = {outcome.name: outcome.exit_code for outcome in outcomes}
    assert set(codes.values()) <= {0, 1, 4}
    refused = ("large", "fast", "slow", "years")
    assert {code for name, code in codes.items() if name.startswith(refused)} == {4}


def test_mutations_are_reproducible(tmp_path: Path) -> None:
    source = write_corpus(tmp_path, ["gif"])["gif"]
    for mutation in MUTATIONS:
        first = [mutate(source, mutation, seed) for seed in range(4)]
        assert first == [mutate(source, mutation, seed) for seed in range(4)]
        assert len({source.read_bytes(), *first}) > 3


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["os.kill(os.getpid(), 11)", "time.sleep(60)"])
def test_a_crash_and_a_time_out_are_those_of_their_case(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    worker = tmp_path / "worker.py"
    worker.write_text(f"""
import json, os, sys, time
for name in json.load(sys.stdin)[2]:
    print(json.dumps({{"begin": name}}), flush=True)
    if name == "gif:truncation:1":
        {ending}
    print(json.dumps({{"end": name, "exit_code": 4, "problems": []}}), flush=True)
""")
    monkeypatch.setattr(fuzz_media, "WORKER", worker)
    names = [f"gif:truncation:{seed}" for seed in range(4)]
    outcomes = list(fuzz_media.run_cases(names, {}, timeout_s=1))
    assert [outcome.name for outcome in outcomes] == names
    assert [outcome.exit_code for outcome in outcomes] == [4, -1, 4, 4]
    assert outcomes[1].problems


@pytest.mark.slow
def test_the_program_runs_one_case() -> None:
    command = [sys.executable, str(TOOLS / "fuzz_media.py"), "--only", "gif:truncation:1"]
    environment = {**os.environ, "PYTHONSAFEPATH": ""}  # the program imports its neighbours
    result = subprocess.run(
        command, env=environment, check=True, capture_output=True, text=True
    )
    assert "1 cases" in result.stdout
