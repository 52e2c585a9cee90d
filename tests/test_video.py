"""Films are read as they are shown: every frame once, upright, at its time."""

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
    draw_numbered_frame,
    find_onset_s,
    is_upright,
    make_click,
    make_tone,
    read_frame_number,
    run_ffmpeg,
    write_rotated_video,
    write_video,
)

from loris_cli.errors import InputError
from loris_cli.video.audio_track import read_audio, read_audio_blocks
from loris_cli.video.frame_conversion import FrameConverter, RgbImage
from loris_cli.video.frames import read_frames, read_frames_at_fps
from loris_cli.video.probe import probe_video

UNEVEN_S = [0, 0.1, 0.13, 0.4, 0.41, 0.9, 1.0, 1.5, 1.55, 1.6, 1.61, 2.0]
RATE_HZ = 22_050


def numbers(path: Path) -> list[int]:
    return [read_frame_number(frame.rgb) for frame in read_frames(path)]


def times_s(path: Path) -> list[float]:
    return [frame.time_s for frame in read_frames(path)]


def write_damaged(source: Path, out: Path, change: Callable[[bytearray], None]) -> Path:
    content = bytearray(source.read_bytes())
    change(content)
    out.write_bytes(content)
    return out


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov", ".ts", ".avi"])
@pytest.mark.parametrize("b_frames", [0, 2])
@pytest.mark.parametrize("start_s", [0.0, 0.7])
def test_every_frame_is_shown_once_in_order(
    tmp_path: Path, suffix: str, b_frames: int, start_s: float
) -> None:
    codec = "mpeg4" if suffix == ".avi" else "libx264"
    start_s = 0.0 if suffix == ".avi" else start_s  # AVI has no such thing
    path = write_video(
        tmp_path / f"a{suffix}", codec=codec, b_frames=b_frames, start_s=start_s, n_frames=14
    )
    info = probe_video(path)
    assert numbers(path) == list(range(14))
    np.testing.assert_allclose(times_s(path), np.arange(14) / 10, atol=1e-3)
    assert info.n_frames == 14
    assert info.fps == pytest.approx(10)
    assert info.frame_interval_s == pytest.approx(0.1)
    assert info.duration_s == pytest.approx(1.4, abs=1e-3)
    assert not info.truncated


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("b_frames", [0, 2])
def test_uneven_times_are_kept(tmp_path: Path, suffix: str, b_frames: int) -> None:
    path = write_video(tmp_path / f"a{suffix}", times_s=UNEVEN_S, b_frames=b_frames)
    assert numbers(path) == list(range(12))
    np.testing.assert_allclose(times_s(path), UNEVEN_S, atol=1e-3)
    assert probe_video(path).fps == pytest.approx(11 / 2.0, rel=1e-3)


@pytest.mark.parametrize("fps", [16.0, 2.0, 50.0, 29.97])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_the_clock_shows_the_last_frame_that_is_not_later(
    tmp_path: Path, suffix: str, fps: float
) -> None:
    path = write_video(tmp_path / f"a{suffix}", times_s=UNEVEN_S)
    shown = list(read_frames_at_fps(path, fps))
    ticks = np.arange(len(shown)) / fps
    by_hand = np.searchsorted(np.array(UNEVEN_S) - 1e-9, ticks, side="right") - 1
    assert [read_frame_number(frame.rgb) for frame in shown] == by_hand.tolist()
    np.testing.assert_allclose([frame.time_s for frame in shown], ticks)
    assert len(shown) == int(np.ceil(probe_video(path).duration_s * fps - 1e-6))


def test_times_rounded_to_milliseconds_repeat_no_frame(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", fps=16, n_frames=32)  # 0.0625 s becomes 0.063
    assert [read_frame_number(frame.rgb) for frame in read_frames_at_fps(path, 16)] == list(
        range(32)
    )


def test_a_held_frame_is_the_callers_own(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", fps=2, n_frames=2)
    numbers_read = []
    for frame in read_frames_at_fps(path, 8):
        numbers_read.append(read_frame_number(frame.rgb))
        frame.rgb[:] = 255
    assert numbers_read == [0, 0, 0, 0, 1, 1, 1, 1]


def test_only_frames_in_use_are_converted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_video(tmp_path / "a.mp4", fps=60, n_frames=60)
    calls = []
    convert = FrameConverter.__call__

    def counted(
        self: FrameConverter, frame: av.VideoFrame, sample_aspect_ratio: Fraction | None
    ) -> RgbImage:
        calls.append(frame.pts)
        return convert(self, frame, sample_aspect_ratio)

    monkeypatch.setattr(FrameConverter, "__call__", counted)
    assert len(list(read_frames_at_fps(path, 4))) == 4
    assert len(calls) == 4


@pytest.mark.parametrize("turn", [0, 1, 2, 3])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_a_turned_film_is_upright(tmp_path: Path, turn: int, suffix: str) -> None:
    stored = write_video(tmp_path / "stored.mp4", quarter_turns=turn, n_frames=5)
    path = write_rotated_video(stored, tmp_path / f"a{suffix}", 90 * turn)
    info = probe_video(path)
    assert (info.width, info.height, info.rotation_deg) == (160, 120, 90 * turn)
    for number, frame in enumerate(read_frames(path, max_side_px=80)):
        assert frame.rgb.shape == (60, 80, 3)
        assert is_upright(frame.rgb)
        assert read_frame_number(frame.rgb) == number
    if suffix == ".mp4" and (turn == 0 or int(cv2.__version__.split(".")[0]) >= 5):
        # OpenCV 4.11 gives turned films as they lie in the file.
        read, image = cv2.VideoCapture(str(path)).read()
        assert read
        frame_rgb = next(read_frames(path)).rgb.astype(int)
        assert np.abs(frame_rgb - image[..., ::-1]).mean() < 4


def test_a_mirrored_film_is_set_right(tmp_path: Path) -> None:
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
def test_colours_are_right_in_any_pixel_format(
    tmp_path: Path, codec: str, pixels: str, suffix: str
) -> None:
    path = write_video(tmp_path / f"a{suffix}", codec=codec, pixel_format=pixels, n_frames=4)
    image = next(read_frames(path)).rgb
    assert image.dtype == np.uint8
    assert read_frame_number(list(read_frames(path))[3].rgb) == 3
    np.testing.assert_allclose(image[90, 40], (220, 30, 30), atol=14)
    np.testing.assert_allclose(image[90, 120], (30, 30, 220), atol=14)
    np.testing.assert_allclose(list(read_frames(path))[1].rgb[30, 10], 255, atol=6)
    np.testing.assert_allclose(image[30, 10], 0, atol=6)


@pytest.mark.parametrize("size", [(161, 121), (99, 35), (35, 99)])
@pytest.mark.parametrize("max_side_px", [None, 33, 500])
def test_odd_sizes_are_right(
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


def test_scaling_down_is_the_mean_of_an_area(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", codec="ffv1", pixel_format="yuv444p", n_frames=3)
    by_opencv = cv2.resize(draw_numbered_frame(0), (40, 30), interpolation=cv2.INTER_AREA)
    frame_rgb = next(read_frames(path, max_side_px=40)).rgb.astype(int)
    assert np.abs(frame_rgb - by_opencv).max() <= 8


def test_oblong_pixels_are_made_square(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    narrow = write_video(tmp_path / "b.mp4", size=(80, 120), n_frames=3)
    run_ffmpeg(
        "-i", narrow, "-c", "copy", "-bsf:v", "h264_metadata=sample_aspect_ratio=2/1", path
    )
    assert next(read_frames(path)).rgb.shape == (120, 160, 3)
    assert (probe_video(path).width, probe_video(path).height) == (160, 120)


def test_frames_before_an_edit_list_are_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    run_ffmpeg(
        "-ss", "0.55", "-i", write_video(tmp_path / "b.mp4", n_frames=12), "-c", "copy", path
    )
    assert numbers(path)[0] in {5, 6}
    assert numbers(path)[-1] == 11
    assert times_s(path)[0] == 0
    assert probe_video(path).n_frames == len(numbers(path))


def test_cover_art_is_not_the_video(tmp_path: Path) -> None:
    cover = tmp_path / "cover.png"
    cv2.imwrite(str(cover), np.zeros((64, 64, 3), np.uint8))
    path = tmp_path / "a.mp4"
    run_ffmpeg(
        *(
            "-i",
            cover,
            "-i",
            write_video(tmp_path / "b.mp4"),
            "-map",
            "0",
            "-map",
            "1",
            "-c",
            "copy",
        ),
        *("-disposition:v:0", "attached_pic", path),
    )
    assert probe_video(path).width == 160
    assert numbers(path) == list(range(12))
    song = tmp_path / "song.mp4"
    run_ffmpeg(
        *(
            "-i",
            cover,
            "-i",
            write_video(tmp_path / "c.mp4", sound=make_click(1, 0.1)),
            "-map",
            "0",
        ),
        *("-map", "1:a", "-c", "copy", "-disposition:v:0", "attached_pic", song),
    )
    with pytest.raises(InputError, match="no video"):
        probe_video(song)


def test_a_change_of_size_in_mid_stream_keeps_the_first_size(tmp_path: Path) -> None:
    one = write_video(tmp_path / "1.ts", n_frames=10)
    other = write_video(tmp_path / "2.ts", n_frames=10, start_s=1.0, size=(80, 60))
    path = tmp_path / "a.ts"
    path.write_bytes(one.read_bytes() + other.read_bytes())
    shown = list(read_frames(path))
    assert {frame.rgb.shape for frame in shown} == {(120, 160, 3)}
    assert [read_frame_number(frame.rgb) for frame in shown][-2:] == [8, 9]


def test_damage_in_the_middle_is_left_out_and_told_once(tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.mkv", codec="libvpx-vp9", gop_size=1, n_frames=12)
    with av.open(str(source)) as container:
        places = [(p.pos or 0, p.size) for p in container.demux(video=0) if p.size]

    def spoil(content: bytearray) -> None:
        position, size = places[5]
        content[position + 8 : position + size] = b"\xff" * (size - 8)

    path = write_damaged(source, tmp_path / "b.mkv", spoil)
    warnings: list[str] = []
    shown = [
        read_frame_number(frame.rgb) for frame in read_frames(path, on_warning=warnings.append)
    ]
    assert shown[:5] == [0, 1, 2, 3, 4]
    assert shown[-5:] == [7, 8, 9, 10, 11]
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
def test_a_film_cut_short_gives_what_it_has(
    tmp_path: Path, suffix: str, options: dict[str, str]
) -> None:
    source = write_video(tmp_path / f"a{suffix}", n_frames=40, gop_size=4, options=options)
    cut = len(source.read_bytes()) * 6 // 10
    path = write_damaged(
        source, tmp_path / f"b{suffix}", lambda content: content.__delitem__(slice(cut, None))
    )
    info = probe_video(path)
    assert info.truncated
    assert not probe_video(source).truncated
    assert 8 <= info.n_frames < 36
    shown = numbers(path)
    assert shown[:8] == list(range(8))
    assert abs(len(shown) - info.n_frames) <= 1
    assert len(list(read_frames_at_fps(path, 10))) == round(info.duration_s * 10)


def test_a_film_without_its_index_is_refused(tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.mp4", n_frames=40)
    path = write_damaged(
        source, tmp_path / "b.mp4", lambda content: content.__delitem__(slice(999, None))
    )
    with pytest.raises(InputError, match="no index"):
        probe_video(path)


def test_a_lying_duration_in_the_header_is_not_believed(tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.mp4")

    def lie(content: bytearray) -> None:
        for box in (b"mvhd", b"tkhd", b"mdhd"):
            at = content.index(box) + (24 if box == b"tkhd" else 20)
            content[at : at + 4] = struct.pack(">I", 3_600_000_000)

    info = probe_video(write_damaged(source, tmp_path / "b.mp4", lie))
    assert info.duration_s == pytest.approx(1.2)
    assert info.n_frames == 12


REFUSED: list[tuple[str, bytes, str]] = [
    ("empty", b"", "is empty"),
    ("words", b"these are words\n" * 99, "not a readable video"),
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
    ("png", cv2.imencode(".png", draw_numbered_frame(3))[1].tobytes(), "is an image"),
    ("jpeg", cv2.imencode(".jpg", draw_numbered_frame(3))[1].tobytes(), "is an image"),
]


@pytest.mark.parametrize(("kind", "content", "words"), REFUSED, ids=[r[0] for r in REFUSED])
def test_what_is_no_video_is_refused(
    tmp_path: Path, kind: str, content: bytes, words: str
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
        with pytest.raises(InputError, match=words) as caught:
            reader(path)
        assert str(caught.value).isprintable()
        assert caught.value.hint.isprintable()
        assert caught.value.hint


class Watch:
    """Names of the files that are opened in a folder, from the kernel itself."""

    IN_OPEN = 0x20

    def __init__(self, folder: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self.handle = libc.inotify_init1(os.O_NONBLOCK)
        assert libc.inotify_add_watch(self.handle, os.fsencode(folder), self.IN_OPEN) >= 0

    def opened(self) -> set[str]:
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
def test_files_that_a_playlist_names_are_not_opened(
    tmp_path: Path, kind: str, suffix: str
) -> None:
    write_video(tmp_path / "secret.ts")
    path = tmp_path / f"a{suffix}"
    path.write_bytes({name: content for name, content, _ in REFUSED}[kind])
    watch = Watch(tmp_path)
    if (kind == "ffconcat") == (suffix == ".mp4"):  # what would be followed without a whitelist
        trusting = {"safe": "0", "allowed_extensions": "ALL", "extension_picky": "0"}
        with av.open(str(path), options=trusting):
            assert watch.opened() >= {path.name, "secret.ts"}
    with pytest.raises(InputError, match="playlist"):
        probe_video(path)
    with pytest.raises(InputError, match="playlist"):
        read_audio(path, rate_hz=RATE_HZ)
    assert watch.opened() == {path.name}


def test_what_is_not_there_or_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        probe_video(tmp_path / "no.mp4")
    with pytest.raises(InputError, match="is a folder"):
        probe_video(tmp_path)
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(InputError, match="not a plain file"):
        probe_video(tmp_path / "pipe.mp4")


@pytest.mark.parametrize("name", ["-a b.mp4", "%03d.mp4", "12:30.mp4", "a\nb.mp4", "ё[b].mp4"])
def test_names_mean_nothing(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write_video(tmp_path / "a.mp4").rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert probe_video(Path(name)).n_frames == 12
    assert numbers(Path(name)) == list(range(12))


def test_one_frame_is_a_still_picture(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="still image"):
        probe_video(write_video(tmp_path / "a.mp4", n_frames=1))


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    run_ffmpeg(
        "-i",
        write_video(tmp_path / "b.mp4", sound=make_click(1, 0.1)),
        "-vn",
        tmp_path / "a.mp4",
    )
    with pytest.raises(InputError, match="no video"):
        probe_video(tmp_path / "a.mp4")


def test_giant_frames_are_refused_before_decoding(tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.avi", codec="ffv1", pixel_format="yuv420p")

    def grow(content: bytearray, side: int) -> None:
        at = content.index(struct.pack("<ii", 160, 120), content.index(b"strf"))
        content[at : at + 8] = struct.pack("<ii", side, side)

    for side in (16_000, 65_535):
        path = write_damaged(source, tmp_path / "b.avi", partial(grow, side=side))
        for reader in (probe_video, lambda path: next(read_frames(path))):
            with pytest.raises(InputError, match=r"no valid size|16000 x 16000"):
                reader(path)
    long = write_video(tmp_path / "c.mkv", codec="ffv1", size=(20_000, 16), n_frames=2)
    with pytest.raises(InputError, match="20000 x 16"):
        probe_video(long)


def test_a_clock_that_jumps_is_refused(tmp_path: Path) -> None:
    ahead = write_video(tmp_path / "a.mp4", times_s=[0, 0.1, 0.2, 5000])
    with pytest.raises(InputError, match=r"jump by 5000 s at second 0\.2"):
        probe_video(ahead)
    once = write_video(tmp_path / "b.ts", n_frames=30)
    back = tmp_path / "c.ts"
    back.write_bytes(once.read_bytes() * 2)
    with pytest.raises(InputError, match="jump back"):
        probe_video(back)


# Sound


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts", ".mov"])
@pytest.mark.parametrize(
    ("film_start_s", "sound_start_s"), [(0.0, 0.0), (0.5, 0.0), (0.5, 0.8), (0.0, 0.3)]
)
def test_sound_is_in_time_with_the_first_frame(
    tmp_path: Path, suffix: str, film_start_s: float, sound_start_s: float
) -> None:
    path = write_video(
        tmp_path / f"a{suffix}",
        n_frames=20,
        b_frames=2,
        start_s=film_start_s,
        sound=make_click(1.5, 0.7),
        audio_start_s=sound_start_s,
    )
    samples = read_audio(path, rate_hz=RATE_HZ)
    assert samples is not None
    assert samples.dtype == np.float32
    onset_s = find_onset_s(samples, RATE_HZ)
    assert onset_s == pytest.approx(sound_start_s + 0.7 - film_start_s, abs=0.003)


def test_channels_stay_apart_and_keep_their_level(tmp_path: Path) -> None:
    both = np.concatenate([make_tone(1, 440, 0.5), make_tone(1, 880, 0.1)])
    path = write_video(tmp_path / "a.mkv", sound=both)
    samples = read_audio(path, rate_hz=RATE_HZ)
    assert samples is not None
    assert samples.shape[0] == 2
    rms = np.sqrt(np.mean(samples[:, 4000:18_000] ** 2, axis=1))
    np.testing.assert_allclose(rms, np.array([0.5, 0.1]) / np.sqrt(2), rtol=0.05)


def test_a_film_without_sound_has_none(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4")
    assert read_audio(path, rate_hz=RATE_HZ) is None
    assert list(read_audio_blocks(path, rate_hz=RATE_HZ, block_s=1)) == []
    assert not probe_video(path).has_audio


@pytest.mark.parametrize("block_s", [0.01, 0.3, 10.0])
def test_blocks_join_to_the_whole(tmp_path: Path, block_s: float) -> None:
    path = write_video(tmp_path / "a.mkv", sound=make_click(1, 0.3), start_s=0.1)
    blocks = list(read_audio_blocks(path, rate_hz=RATE_HZ, block_s=block_s))
    assert {block.shape[1] for block in blocks[:-1]} <= {round(block_s * RATE_HZ)}
    samples = read_audio(path, rate_hz=RATE_HZ)
    assert samples is not None
    np.testing.assert_array_equal(np.concatenate(blocks, axis=1), samples)


def test_a_sound_file_is_read_too(tmp_path: Path) -> None:
    import soundfile

    both = np.concatenate([make_click(1, 0.25), make_tone(1, 300, 0.2)])
    soundfile.write(tmp_path / "a.wav", both.T, 44_100, subtype="FLOAT")
    samples = read_audio(tmp_path / "a.wav", rate_hz=44_100)
    assert samples is not None
    np.testing.assert_allclose(samples, both, atol=1e-6)
    assert Fraction(samples.shape[1], 44_100) == 1


def test_a_hole_in_the_sound_is_silence(tmp_path: Path) -> None:
    steady = write_video(tmp_path / "a.mkv", n_frames=30, sound=make_tone(3, 500, 0.5))
    with_hole = tmp_path / "b.mkv"
    with av.open(str(steady)) as source, av.open(str(with_hole), "w") as out:
        streams = {s.index: out.add_stream_from_template(s) for s in source.streams}
        for packet in source.demux():
            if packet.dts is None or packet.pts is None or packet.time_base is None:
                continue
            in_hole = 1.0 <= packet.pts * packet.time_base < 2.0
            if packet.stream.type == "audio" and in_hole:
                continue
            packet.stream = streams[packet.stream.index]
            out.mux(packet)
    samples = read_audio(with_hole, rate_hz=RATE_HZ)
    assert samples is not None
    assert samples.shape[1] == pytest.approx(3 * RATE_HZ, abs=0.05 * RATE_HZ)
    assert np.abs(samples[0, int(1.1 * RATE_HZ) : int(1.9 * RATE_HZ)]).max() < 1e-3
    assert np.abs(samples[0, int(2.1 * RATE_HZ) : int(2.9 * RATE_HZ)]).max() > 0.4
