"""MP4 boxes that ffmpeg does not copy: edits, 360-degree and HDR records, QuickTime tags."""

import struct
import subprocess
from pathlib import Path

import av
import numpy as np
import pytest
from media import edit_tracks, make_click, read_frame_number, run_ffmpeg, write_video, write_wav

from loris_cli.errors import InputError
from loris_cli.video import mp4_boxes
from loris_cli.video.ffmpeg_program import find_ffmpeg
from loris_cli.video.frames import read_frames
from loris_cli.video.mp4_boxes import Box, read_source_boxes
from loris_cli.video.mux import mux_audio
from loris_cli.video.output_formats import check_container
from loris_cli.video.probe import probe_video

EDITS_S = [
    [(0.0, 2.0), (4.5, 8.0)],
    [(4.5, 8.0), (0.0, 2.0)],
    [(1.0, 2.0), (1.0, 2.0)],
    [(0.3, 1.0), (2.0, 3.1), (6.0, 7.5)],
]
PROJECTION = Box(
    b"proj", Box(b"prhd", bytes(16)).encode() + Box(b"equi", bytes(20)).encode()
).encode()
ENTRY_BOXES = [
    Box(b"st3d", bytes(4) + b"\2"),
    Box(b"sv3d", Box(b"svhd", bytes(4) + b"test\0").encode() + PROJECTION),
    Box(b"dvvC", bytes([1, 0, 10, 0x45, *bytes(20)])),
    Box(b"amve", bytes(8)),
]


def mux(video: Path, suffix: str) -> Path:
    """Mux a video with a click, and return the path of the result."""
    audio = write_wav(video.with_name("a.wav"), make_click(2, 0.5, rate_hz=22_050))
    out = video.with_name(f"out{suffix}")
    warnings: list[str] = []
    mux_audio(video, audio, out, tags={"comment": "new"}, on_warning=warnings.append)
    assert warnings == []
    return out


def write_edited_video(
    folder: Path, edits_s: list[tuple[float, float]], **options: int
) -> tuple[Path, list[int]]:
    """Write a video of 80 frames with an edit list, and return the numbers of its frames."""
    source = write_video(folder / "a.mp4", n_frames=80, sound=make_click(8, 7.2), **options)  # type: ignore[arg-type]
    path = folder / "b.mp4"
    run_ffmpeg("-i", source, "-c", "copy", "-use_editlist", "1", path)
    edit_tracks(path, edits_s)
    ranges = [range(round(start * 10), round(end * 10)) for start, end in edits_s]
    return path, [number for numbers in ranges for number in numbers]


def read_track(path: Path) -> Box:
    """Return the first track of an MP4 file."""
    with path.open("rb") as file:
        found = mp4_boxes._read_moov(file)
    assert found is not None
    track = found[1].find(b"trak")
    assert track is not None
    return track


def add_boxes(path: Path, entry_boxes: list[Box], track_boxes: list[Box]) -> None:
    """Add boxes to the video track of an MP4 file whose index is at its end."""
    content = path.read_bytes()
    with path.open("rb") as file:
        found = mp4_boxes._read_moov(file)
    assert found is not None
    at, moov = found
    track = moov.find(b"trak")
    assert track is not None
    mp4_boxes._replace_sample_entry_boxes(track, entry_boxes)
    track.boxes.extend(track_boxes)
    path.write_bytes(content[:at] + moov.encode())


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
@pytest.mark.parametrize("b_frames", [0, 2])
@pytest.mark.parametrize("edits_s", EDITS_S)
def test_an_edited_video_shows_the_frames_of_its_edits(
    tmp_path: Path, edits_s: list[tuple[float, float]], b_frames: int, suffix: str
) -> None:
    video, numbers = write_edited_video(tmp_path, edits_s, b_frames=b_frames)
    out = mux(video, suffix)
    warnings: list[str] = []
    frames = list(read_frames(out, on_warning=warnings.append))
    assert warnings == []
    assert [read_frame_number(frame.rgb) for frame in frames] == numbers
    times_s = [frame.time_s for frame in frames]
    np.testing.assert_allclose(times_s, np.arange(len(numbers)) / 10, atol=1e-3)
    assert probe_video(out).duration_s == pytest.approx(len(numbers) / 10, abs=2e-3)
    with av.open(str(out)) as container:
        assert container.duration is not None
        assert container.duration / av.time_base == pytest.approx(len(numbers) / 10, abs=0.01)


def test_each_packet_of_an_edited_video_is_stored_once(tmp_path: Path) -> None:
    video, _ = write_edited_video(tmp_path, EDITS_S[0], b_frames=2)
    packets = []
    for path in (video, mux(video, ".mp4")):
        with av.open(str(path), options={"ignore_editlist": "1"}) as container:
            packets.append([bytes(packet) for packet in container.demux(video=0)])
    assert packets[0] == packets[1]


@pytest.mark.parametrize("suffix", [".mkv", ".webm"])
def test_hidden_frames_are_refused_where_they_would_be_shown(
    tmp_path: Path, suffix: str
) -> None:
    video, _ = write_edited_video(tmp_path, EDITS_S[0])
    cut = tmp_path / "cut.mp4"
    run_ffmpeg("-ss", "0.55", "-i", tmp_path / "a.mp4", "-c", "copy", cut)
    for path in (video, cut):
        out = tmp_path / f"out{suffix}"
        with pytest.raises(InputError):
            check_container(path, out)
        with pytest.raises(InputError):
            mux(path, suffix)
        assert not out.exists()


def test_edits_at_key_frames_are_copied_to_matroska(tmp_path: Path) -> None:
    video, numbers = write_edited_video(tmp_path, EDITS_S[0], gop_size=1)
    frames = list(read_frames(mux(video, ".mkv")))
    assert [read_frame_number(frame.rgb) for frame in frames] == numbers


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_records_of_spherical_and_hdr_video_are_copied(tmp_path: Path, suffix: str) -> None:
    video = write_video(tmp_path / "a.mp4", sound=make_click(1, 0.3))
    spherical = Box(b"uuid", bytes.fromhex("ffcc8263f8554a938814587a02521fdd") + b"<rdf/>")
    add_boxes(video, ENTRY_BOXES, [spherical])
    out = mux(video, suffix)
    log = subprocess.run([find_ffmpeg(), "-i", out], capture_output=True, check=False).stderr
    for name in (b"side by side", b"Spherical Mapping: equirectangular", b"DOVI configuration"):
        assert name in log
    assert [read_frame_number(frame.rgb) for frame in read_frames(out)] == list(range(12))
    if suffix == ".mkv":
        return
    track = read_track(out)
    copied = [b for b in mp4_boxes._parse_sample_entry(track)[1] if b in ENTRY_BOXES]
    assert copied == ENTRY_BOXES
    assert spherical in track.boxes


@pytest.mark.parametrize("source_suffix", [".mov", ".mp4"])
@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_recording_date_and_quicktime_tags_are_kept(
    tmp_path: Path, source_suffix: str, suffix: str
) -> None:
    tags = {
        "com.apple.quicktime.creationdate": "2024-05-01T12:00:00+0200",
        "com.apple.quicktime.location.ISO6709": "+52.5200+013.4050+034.000/",
        "com.apple.quicktime.make": "Apple",
    }
    video = tmp_path / f"v{source_suffix}"
    run_ffmpeg(
        *("-i", write_video(tmp_path / "a.mp4", sound=make_click(1, 0.3)), "-c", "copy"),
        *("-movflags", "use_metadata_tags", "-metadata", "comment=old"),
        *("-metadata", "creation_time=2024-05-01T10:00:00Z"),
        *("-metadata:s:v", "language=deu", "-metadata:s:v", "handler_name=Camera"),
        *(arg for key, tag in tags.items() for arg in ("-metadata", f"{key}={tag}")),
        video,
    )
    with av.open(str(mux(video, suffix))) as container:
        found = {key.lower(): tag for key, tag in container.metadata.items()}
        assert {key: found.get(key.lower()) for key in tags} == tags
        assert found["creation_time"].startswith("2024-05-01T10:00:00")
        assert found["comment"] == "new"
        assert [stream.type for stream in container.streams] == ["video", "audio"]
        if source_suffix == ".mp4":
            assert container.streams[0].language == "deu"
        handlers = {key.lower(): tag for key, tag in container.streams[0].metadata.items()}
        assert handlers["handler_name"] == "Camera"


def test_the_place_of_a_recording_is_kept(tmp_path: Path) -> None:
    video = tmp_path / "v.mp4"
    source = write_video(tmp_path / "a.mp4")
    run_ffmpeg("-i", source, "-c", "copy", "-metadata", "location=+52.5+013.4/", video)
    for suffix in (".mp4", ".mov", ".mkv"):
        with av.open(str(mux(video, suffix))) as container:
            found = {key.lower(): tag for key, tag in container.metadata.items()}
        assert found["location"].startswith("+52.5")


def test_chunk_offsets_over_4_gib_have_64_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video, numbers = write_edited_video(tmp_path, EDITS_S[0])
    monkeypatch.setattr(mp4_boxes, "MAX_32_BIT_OFFSET", 1000)
    out = mux(video, ".mp4")
    tables = read_track(out).find(b"mdia", b"minf", b"stbl")
    assert tables is not None
    assert tables.find(b"co64") is not None
    assert tables.find(b"stco") is None
    assert [read_frame_number(frame.rgb) for frame in read_frames(out)] == numbers


def test_damaged_boxes_are_read_without_an_exception(tmp_path: Path) -> None:
    video, _ = write_edited_video(tmp_path, EDITS_S[0])
    content = bytearray(video.read_bytes())
    start = content.index(b"moov") - 4
    rng = np.random.default_rng(0)
    path = tmp_path / "damaged.mp4"
    n_read = 0
    for _ in range(200):
        damaged = bytearray(content)
        at = int(rng.integers(start, len(content) - 4))
        damaged[at : at + 4] = struct.pack(">I", int(rng.integers(1 << 32)))
        path.write_bytes(damaged[: int(rng.integers(at, 2 * len(content)))])
        n_read += read_source_boxes(path, 1) is not None
    assert n_read > 0
