"""Video decoding: each frame once, upright, at its presentation time; audio in sync."""

import ctypes
import os
import struct
import sys
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from media import (
    AUDIO_HZ,
    Samples,
    draw_numbered_frame,
    find_onset_s,
    is_upright,
    make_click,
    make_tone,
    measure_tone_amplitude,
    read_frame_number,
    run_ffmpeg,
    write_rotated_video,
    write_video,
    write_wav,
)

from loris_cli.errors import InputError
from loris_cli.video.audio_track import read_audio, read_audio_blocks
from loris_cli.video.frame_conversion import FrameConverter, RgbImage
from loris_cli.video.frames import read_frames, read_frames_at_fps
from loris_cli.video.probe import probe_video

pytestmark = pytest.mark.numpy1

VARIABLE_TIMES_S = [0, 0.1, 0.13, 0.4, 0.41, 0.9, 1.0, 1.5, 1.55, 1.6, 1.61, 2.0]
RATE_HZ = 22_050


def read_frame_numbers(path: Path) -> list[int]:
    return [read_frame_number(frame.rgb) for frame in read_frames(path)]


def read_times_s(path: Path) -> list[float]:
    return [frame.time_s for frame in read_frames(path)]


def write_damaged_copy(source: Path, out: Path, damage: Callable[[bytearray], None]) -> Path:
    content = bytearray(source.read_bytes())
    damage(content)
    out.write_bytes(content)
    return out


def make_truncation(n_bytes: int) -> Callable[[bytearray], None]:
    def truncate(content: bytearray) -> None:
        del content[n_bytes:]

    return truncate


def check_both_readers_refuse(path: Path, match: str) -> None:
    """Check that `probe_video` and `read_frames` refuse a video with this value or key word."""
    with pytest.raises(InputError, match=match):
        probe_video(path)
    with pytest.raises(InputError, match=match):
        next(read_frames(path))


@pytest.mark.parametrize(
    ("suffix", "codec", "start_s"),
    [
        (suffix, "libx264", start_s)
        for suffix in (".mp4", ".mkv", ".mov", ".ts")
        for start_s in (0.0, 0.7)
    ]
    + [(".avi", "mpeg4", 0.0)],  # AVI has no start time
)
@pytest.mark.parametrize("b_frames", [0, 2])
def test_each_frame_is_read_once_in_presentation_order(
    tmp_path: Path, suffix: str, codec: str, start_s: float, b_frames: int
) -> None:
    path = write_video(
        tmp_path / f"a{suffix}", codec=codec, b_frames=b_frames, start_s=start_s, n_frames=14
    )
    info = probe_video(path)
    assert read_frame_numbers(path) == list(range(14))
    np.testing.assert_allclose(read_times_s(path), np.arange(14) / 10, atol=1e-3)
    assert info.n_frames == 14
    assert info.fps == pytest.approx(10)
    assert info.frame_interval_s == pytest.approx(0.1)
    assert info.duration_s == pytest.approx(1.4, abs=1e-3)
    assert not info.truncated


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("b_frames", [0, 2])
def test_variable_frame_times_are_preserved(tmp_path: Path, suffix: str, b_frames: int) -> None:
    path = write_video(tmp_path / f"a{suffix}", times_s=VARIABLE_TIMES_S, b_frames=b_frames)
    assert read_frame_numbers(path) == list(range(12))
    np.testing.assert_allclose(read_times_s(path), VARIABLE_TIMES_S, atol=1e-3)
    assert probe_video(path).fps == pytest.approx(11 / 2.0, rel=1e-3)


@pytest.mark.parametrize("fps", [16.0, 2.0, 50.0, 29.97])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_resampling_uses_the_latest_frame_at_each_tick(
    tmp_path: Path, suffix: str, fps: float
) -> None:
    path = write_video(tmp_path / f"a{suffix}", times_s=VARIABLE_TIMES_S)
    frames = list(read_frames_at_fps(path, fps))
    ticks_s = np.arange(len(frames)) / fps
    expected = np.searchsorted(np.array(VARIABLE_TIMES_S) - 1e-9, ticks_s, side="right") - 1
    assert [read_frame_number(frame.rgb) for frame in frames] == expected.tolist()
    np.testing.assert_allclose([frame.time_s for frame in frames], ticks_s)
    assert len(frames) == int(np.ceil(probe_video(path).duration_s * fps - 1e-6))


def test_times_rounded_to_milliseconds_repeat_no_frame(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", fps=16, n_frames=32)  # 0.0625 s becomes 0.063
    assert [read_frame_number(frame.rgb) for frame in read_frames_at_fps(path, 16)] == list(
        range(32)
    )


def test_repeated_frames_are_independent_copies(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", fps=2, n_frames=2)
    numbers_read = []
    for frame in read_frames_at_fps(path, 8):
        numbers_read.append(read_frame_number(frame.rgb))
        frame.rgb[:] = 255
    assert numbers_read == [0, 0, 0, 0, 1, 1, 1, 1]


def test_frames_between_ticks_are_not_converted_to_rgb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_video(tmp_path / "a.mp4", fps=60, n_frames=60)
    converted = []
    convert = FrameConverter.__call__

    def record_and_convert(
        self: FrameConverter, frame: av.VideoFrame, sample_aspect_ratio: Fraction | None
    ) -> RgbImage:
        converted.append(frame.pts)
        return convert(self, frame, sample_aspect_ratio)

    monkeypatch.setattr(FrameConverter, "__call__", record_and_convert)
    frames = list(read_frames_at_fps(path, 4))
    assert [read_frame_number(frame.rgb) for frame in frames] == [0, 15, 30, 45]
    assert len(converted) == 4


@pytest.mark.parametrize("turn", [0, 1, 2, 3])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_rotated_videos_are_read_upright(tmp_path: Path, turn: int, suffix: str) -> None:
    stored = write_video(tmp_path / "stored.mp4", quarter_turns=turn, n_frames=5)
    path = write_rotated_video(stored, tmp_path / f"a{suffix}", 90 * turn)
    info = probe_video(path)
    assert (info.width, info.height, info.rotation_deg) == (160, 120, 90 * turn)
    for number, frame in enumerate(read_frames(path, max_side_px=80)):
        assert frame.rgb.shape == (60, 80, 3)
        assert is_upright(frame.rgb)
        assert read_frame_number(frame.rgb) == number
    if suffix == ".mp4" and (turn == 0 or int(cv2.__version__.split(".")[0]) >= 5):
        # OpenCV 4.11 ignores the rotation.
        is_read, image = cv2.VideoCapture(str(path)).read()
        assert is_read
        frame_rgb = next(read_frames(path)).rgb.astype(int)
        assert np.abs(frame_rgb - image[..., ::-1]).mean() < 4


def test_a_mirrored_video_is_read_mirrored_back(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    run_ffmpeg(
        "-display_hflip", "-i", write_video(tmp_path / "b.mp4", n_frames=3), "-c", "copy", path
    )
    image = next(read_frames(path)).rgb
    assert not is_upright(image)
    assert is_upright(image[:, ::-1])


@pytest.mark.parametrize(
    ("codec", "pixels", "suffix"),
    [
        ("libx264", "yuv420p", ".mp4"),
        ("libx264", "yuv422p", ".mkv"),
        ("libx264", "yuvj420p", ".mp4"),
        ("libx264", "yuv420p10le", ".mp4"),
        ("libx265", "yuv420p10le", ".mp4"),
        ("libvpx-vp9", "yuv420p", ".webm"),
        ("mjpeg", "yuvj420p", ".avi"),
        ("ffv1", "yuv444p10le", ".mkv"),
    ],
)
def test_colours_are_correct_in_every_pixel_format(
    tmp_path: Path, codec: str, pixels: str, suffix: str
) -> None:
    path = write_video(tmp_path / f"a{suffix}", codec=codec, pixel_format=pixels, n_frames=4)
    images = [frame.rgb for frame in read_frames(path)]
    assert images[0].dtype == np.uint8
    assert [read_frame_number(image) for image in images] == [0, 1, 2, 3]
    np.testing.assert_allclose(images[0][90, 40], (220, 30, 30), atol=14)
    np.testing.assert_allclose(images[0][90, 120], (30, 30, 220), atol=14)
    np.testing.assert_allclose(images[1][30, 10], 255, atol=6)
    np.testing.assert_allclose(images[0][30, 10], 0, atol=6)


@pytest.mark.parametrize("size", [(161, 121), (99, 35), (35, 99)])
@pytest.mark.parametrize("max_side_px", [None, 33, 500])
def test_frames_of_odd_size_are_scaled_to_the_rounded_size(
    tmp_path: Path, size: tuple[int, int], max_side_px: int | None
) -> None:
    path = write_video(tmp_path / "a.mp4", size=size, pixel_format="yuv444p", n_frames=3)
    scale = min(1.0, (max_side_px or 500) / max(size))
    expected = tuple(round(side * scale) for side in size)
    for frame in read_frames(path, max_side_px=max_side_px):
        assert frame.rgb.shape == (expected[1], expected[0], 3)
        assert frame.rgb.flags["C_CONTIGUOUS"]
        assert is_upright(frame.rgb)
    assert (probe_video(path).width, probe_video(path).height) == size


def test_downscaling_agrees_with_area_averaging_of_opencv(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", codec="ffv1", pixel_format="yuv444p", n_frames=3)
    expected = cv2.resize(draw_numbered_frame(0), (40, 30), interpolation=cv2.INTER_AREA)
    frame_rgb = next(read_frames(path, max_side_px=40)).rgb.astype(int)
    assert np.abs(frame_rgb - expected).max() <= 8


def test_non_square_pixels_are_scaled_to_square_pixels(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    narrow = write_video(tmp_path / "b.mp4", size=(80, 120), n_frames=3)
    run_ffmpeg(
        "-i", narrow, "-c", "copy", "-bsf:v", "h264_metadata=sample_aspect_ratio=2/1", path
    )
    assert next(read_frames(path)).rgb.shape == (120, 160, 3)
    assert (probe_video(path).width, probe_video(path).height) == (160, 120)


def test_frames_before_an_edit_list_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    run_ffmpeg(
        "-ss", "0.55", "-i", write_video(tmp_path / "b.mp4", n_frames=12), "-c", "copy", path
    )
    frame_numbers = read_frame_numbers(path)
    assert frame_numbers[0] in {5, 6}
    assert frame_numbers == list(range(frame_numbers[0], 12))
    assert read_times_s(path)[0] == 0
    assert probe_video(path).n_frames == len(frame_numbers)


def test_cover_art_is_not_read_as_the_video_stream(tmp_path: Path) -> None:
    cover = tmp_path / "cover.png"
    cv2.imwrite(str(cover), np.zeros((64, 64, 3), np.uint8))
    path = tmp_path / "a.mp4"
    run_ffmpeg(
        *("-i", cover, "-i", write_video(tmp_path / "b.mp4"), "-map", "0", "-map", "1"),
        *("-c", "copy", "-disposition:v:0", "attached_pic", path),
    )
    assert probe_video(path).width == 160
    assert read_frame_numbers(path) == list(range(12))
    song = tmp_path / "song.mp4"
    source = write_video(tmp_path / "c.mp4", sound=make_click(1, 0.1))
    run_ffmpeg(
        *("-i", cover, "-i", source, "-map", "0", "-map", "1:a"),
        *("-c", "copy", "-disposition:v:0", "attached_pic", song),
    )
    with pytest.raises(InputError, match="stream"):
        probe_video(song)


def test_frames_after_a_size_change_have_the_first_size(tmp_path: Path) -> None:
    large = write_video(tmp_path / "1.ts", n_frames=10)
    small = write_video(tmp_path / "2.ts", n_frames=10, start_s=1.0, size=(80, 60))
    path = tmp_path / "a.ts"
    path.write_bytes(large.read_bytes() + small.read_bytes())
    frames = list(read_frames(path))
    assert {frame.rgb.shape for frame in frames} == {(120, 160, 3)}
    assert [read_frame_number(frame.rgb) for frame in frames] == 2 * list(range(10))


def test_damaged_frames_are_skipped_with_one_warning(tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.mkv", codec="libvpx-vp9", gop_size=1, n_frames=12)
    with av.open(str(source)) as container:
        packets = [(p.pos or 0, p.size) for p in container.demux(video=0) if p.size]

    def damage_packet(content: bytearray) -> None:
        position, size = packets[5]
        content[position + 8 : position + size] = b"\xff" * (size - 8)

    path = write_damaged_copy(source, tmp_path / "b.mkv", damage_packet)
    warnings: list[str] = []
    frame_numbers = [
        read_frame_number(frame.rgb) for frame in read_frames(path, on_warning=warnings.append)
    ]
    assert frame_numbers[:5] == [0, 1, 2, 3, 4]
    assert frame_numbers[-5:] == [7, 8, 9, 10, 11]
    assert len(warnings) == 1
    assert len(list(read_frames_at_fps(path, 10))) == 12


@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        (".mkv", {}),
        (".ts", {}),
        (".mp4", {"movflags": "frag_keyframe+empty_moov"}),
        (".mp4", {"movflags": "faststart"}),
    ],
)
def test_the_readable_frames_of_a_truncated_video_are_read(
    tmp_path: Path, suffix: str, options: dict[str, str]
) -> None:
    source = write_video(tmp_path / f"a{suffix}", n_frames=40, gop_size=4, options=options)
    truncate = make_truncation(source.stat().st_size * 6 // 10)
    path = write_damaged_copy(source, tmp_path / f"b{suffix}", truncate)
    info = probe_video(path)
    assert info.truncated
    assert not probe_video(source).truncated
    assert 8 <= info.n_frames < 36
    frame_numbers = read_frame_numbers(path)
    assert frame_numbers[:8] == list(range(8))
    assert abs(len(frame_numbers) - info.n_frames) <= 1
    assert len(list(read_frames_at_fps(info, 10))) == round(info.duration_s * 10)


def test_a_video_without_an_index_is_refused(tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.mp4", n_frames=40)
    path = write_damaged_copy(source, tmp_path / "b.mp4", make_truncation(999))
    with pytest.raises(InputError, match=r"b\.mp4.* index"):
        probe_video(path)


def test_a_wrong_duration_in_the_header_is_ignored(tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.mp4")

    def set_long_duration(content: bytearray) -> None:
        for box in (b"mvhd", b"tkhd", b"mdhd"):
            at = content.index(box) + (24 if box == b"tkhd" else 20)
            content[at : at + 4] = struct.pack(">I", 3_600_000_000)

    info = probe_video(write_damaged_copy(source, tmp_path / "b.mp4", set_long_duration))
    assert info.duration_s == pytest.approx(1.2)
    assert info.n_frames == 12


# Kind of the file, content, key word of the error.
BAD_CONTENTS: list[tuple[str, bytes, str]] = [
    ("nothing", b"", "empty"),
    ("text", b"these are words\n" * 99, "Invalid data"),
    (
        "m3u8",
        b"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1,\nsecret.ts\n#EXT-X-ENDLIST\n",
        "playlist",
    ),
    ("ffconcat", b"ffconcat version 1.0\nfile secret.ts\n", "playlist"),
    ("sdp", b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nm=video 5004 RTP/AVP 96\n", "playlist"),
    (
        "dash",
        b'<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011"/>',
        "playlist",
    ),
    ("png", cv2.imencode(".png", draw_numbered_frame(3))[1].tobytes(), "image"),
    ("jpeg", cv2.imencode(".jpg", draw_numbered_frame(3))[1].tobytes(), "image"),
]


@pytest.mark.parametrize(
    ("kind", "content", "word"), BAD_CONTENTS, ids=[r[0] for r in BAD_CONTENTS]
)
def test_files_that_are_not_videos_are_refused(
    tmp_path: Path, kind: str, content: bytes, word: str
) -> None:
    path = tmp_path / f"{kind}\n.mp4"
    path.write_bytes(content)
    readers: list[Callable[[Path], object]] = [
        probe_video,
        lambda path: next(read_frames(path)),
        lambda path: next(read_frames_at_fps(path, 16)),
        lambda path: read_audio(path, rate_hz=RATE_HZ),
    ]
    for reader in readers:
        with pytest.raises(InputError, match=rf"{kind}\\n\.mp4.*{word}") as caught:
            reader(path)
        assert str(caught.value).isprintable()
        assert caught.value.hint.isprintable()
        assert caught.value.hint


class FolderWatch:
    """Recorder of the files that are opened in a folder, by inotify."""

    IN_OPEN = 0x20

    def __init__(self, folder: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self.handle = libc.inotify_init1(os.O_NONBLOCK)
        assert libc.inotify_add_watch(self.handle, os.fsencode(folder), self.IN_OPEN) >= 0

    def pop_opened_names(self) -> set[str]:
        names: set[str] = set()
        try:
            content = os.read(self.handle, 1 << 20)
        except BlockingIOError:
            return names
        while content:
            length = struct.unpack_from("iIII", content)[3]
            names.add(content[16 : 16 + length].rstrip(b"\0").decode())
            content = content[16 + length :]
        return names


@pytest.mark.skipif(sys.platform != "linux", reason="inotify")
@pytest.mark.parametrize("kind", ["ffconcat", "m3u8"])
@pytest.mark.parametrize("suffix", [".mp4", ".m3u8"])
def test_files_named_in_a_playlist_are_not_opened(
    tmp_path: Path, kind: str, suffix: str
) -> None:
    write_video(tmp_path / "secret.ts")
    path = tmp_path / f"a{suffix}"
    path.write_bytes({name: content for name, content, _ in BAD_CONTENTS}[kind])
    watch = FolderWatch(tmp_path)
    if (kind == "ffconcat") == (suffix == ".mp4"):  # FFmpeg opens these without a whitelist
        unsafe = {"safe": "0", "allowed_extensions": "ALL", "extension_picky": "0"}
        with av.open(str(path), options=unsafe):
            assert watch.pop_opened_names() >= {path.name, "secret.ts"}
    with pytest.raises(InputError, match="playlist"):
        probe_video(path)
    with pytest.raises(InputError, match="playlist"):
        read_audio(path, rate_hz=RATE_HZ)
    assert watch.pop_opened_names() == {path.name}


def test_missing_files_folders_and_pipes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"missing\.mp4"):
        probe_video(tmp_path / "missing.mp4")
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(InputError, match=r"folder\.mp4"):
        probe_video(tmp_path / "folder.mp4")
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(InputError, match=r"pipe\.mp4"):
        probe_video(tmp_path / "pipe.mp4")


@pytest.mark.parametrize("name", ["-a b.mp4", "%03d.mp4", "12:30.mp4", "a\nb.mp4", "ё[b].mp4"])
def test_file_names_are_not_interpreted(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_video(tmp_path / "a.mp4").rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert probe_video(Path(name)).n_frames == 12
    assert read_frame_numbers(Path(name)) == list(range(12))


def test_a_video_of_one_frame_is_refused(tmp_path: Path) -> None:
    assert probe_video(write_video(tmp_path / "two.mp4", n_frames=2)).n_frames == 2
    with pytest.raises(InputError, match=r"one\.mp4"):
        probe_video(write_video(tmp_path / "one.mp4", n_frames=1))


def test_a_file_with_audio_alone_is_refused(tmp_path: Path) -> None:
    source = write_video(tmp_path / "b.mp4", sound=make_click(1, 0.1))
    run_ffmpeg("-i", source, "-vn", tmp_path / "a.mp4")
    with pytest.raises(InputError, match="stream"):
        probe_video(tmp_path / "a.mp4")


def test_giant_frames_are_refused_before_decoding(tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.avi", codec="ffv1", pixel_format="yuv420p")

    def set_frame_size(content: bytearray, side: int) -> None:
        at = content.index(struct.pack("<ii", 160, 120), content.index(b"strf"))
        content[at : at + 8] = struct.pack("<ii", side, side)

    for side, value in ((16_000, "size|16000 x 16000"), (65_535, "size")):
        damage = partial(set_frame_size, side=side)
        check_both_readers_refuse(write_damaged_copy(source, tmp_path / "b.avi", damage), value)
    wide = write_video(tmp_path / "c.mkv", codec="ffv1", size=(20_000, 16), n_frames=2)
    check_both_readers_refuse(wide, "20000 x 16")


def test_a_timestamp_jump_in_an_mp4_is_refused(tmp_path: Path) -> None:
    forward = write_video(tmp_path / "a.mp4", times_s=[0, 0.1, 0.2, 5000])
    with pytest.raises(InputError, match=r"5000 s.* 0\.2"):
        probe_video(forward)


# Audio


def read_samples(path: Path, rate_hz: int = RATE_HZ) -> Samples:
    samples = read_audio(path, rate_hz=rate_hz)
    assert samples is not None
    return samples


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts", ".mov"])
@pytest.mark.parametrize(
    ("video_start_s", "audio_start_s"), [(0.0, 0.0), (0.5, 0.0), (0.5, 0.8), (0.0, 0.3)]
)
def test_audio_times_are_relative_to_the_first_frame(
    tmp_path: Path, suffix: str, video_start_s: float, audio_start_s: float
) -> None:
    path = write_video(
        tmp_path / f"a{suffix}",
        n_frames=20,
        b_frames=2,
        start_s=video_start_s,
        sound=make_click(1.5, 0.7),
        audio_start_s=audio_start_s,
    )
    samples = read_samples(path)
    assert samples.dtype == np.float32
    onset_s = find_onset_s(samples, RATE_HZ)
    assert onset_s == pytest.approx(audio_start_s + 0.7 - video_start_s, abs=0.003)


def test_audio_channels_keep_their_levels(tmp_path: Path) -> None:
    left, right = make_tone(1, 440, 0.5), make_tone(1, 880, 0.1)
    samples = read_samples(write_video(tmp_path / "a.mkv", sound=np.concatenate([left, right])))
    assert samples.shape[0] == 2
    middle = samples[:, 4000:18_000]
    for channel, (hz, amplitude) in enumerate(((440, 0.5), (880, 0.1))):
        measured = measure_tone_amplitude(middle[[channel]], hz, RATE_HZ)
        assert measured == pytest.approx(amplitude, rel=0.05)
    assert measure_tone_amplitude(middle[[0]], 880, RATE_HZ) < 0.01
    assert measure_tone_amplitude(middle[[1]], 440, RATE_HZ) < 0.01


def test_a_video_without_audio_has_no_samples_and_no_blocks(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4")
    assert read_audio(path, rate_hz=RATE_HZ) is None
    assert list(read_audio_blocks(path, rate_hz=RATE_HZ, block_s=1)) == []
    assert not probe_video(path).has_audio


@pytest.mark.parametrize("block_s", [0.01, 0.3, 10.0])
def test_audio_blocks_concatenate_to_the_whole_track(tmp_path: Path, block_s: float) -> None:
    path = write_video(tmp_path / "a.mkv", sound=make_click(1, 0.3), start_s=0.1)
    blocks = list(read_audio_blocks(path, rate_hz=RATE_HZ, block_s=block_s))
    assert {block.shape[1] for block in blocks[:-1]} <= {round(block_s * RATE_HZ)}
    np.testing.assert_array_equal(np.concatenate(blocks, axis=1), read_samples(path))


def test_a_wav_file_is_read_unchanged(tmp_path: Path) -> None:
    stereo = np.concatenate([make_click(1, 0.25), make_tone(1, 300, 0.2)])
    path = write_wav(tmp_path / "a.wav", stereo, AUDIO_HZ)
    np.testing.assert_allclose(read_samples(path, AUDIO_HZ), stereo, rtol=0, atol=1e-6)


def test_missing_audio_packets_become_silence(tmp_path: Path) -> None:
    complete = write_video(tmp_path / "a.mkv", n_frames=30, sound=make_tone(3, 500, 0.5))
    with_gap = tmp_path / "b.mkv"
    with av.open(str(complete)) as source, av.open(str(with_gap), "w") as out:
        streams = {s.index: out.add_stream_from_template(s) for s in source.streams}
        for packet in source.demux():
            if packet.dts is None or packet.pts is None or packet.time_base is None:
                continue
            in_gap = 1.0 <= packet.pts * packet.time_base < 2.0
            if packet.stream.type == "audio" and in_gap:
                continue
            packet.stream = streams[packet.stream.index]
            out.mux(packet)
    samples = read_samples(with_gap)
    assert samples.shape[1] == pytest.approx(3 * RATE_HZ, abs=0.05 * RATE_HZ)
    assert np.abs(samples[0, int(1.1 * RATE_HZ) : int(1.9 * RATE_HZ)]).max() < 1e-3
    assert np.abs(samples[0, int(2.1 * RATE_HZ) : int(2.9 * RATE_HZ)]).max() > 0.4
