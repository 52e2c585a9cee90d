"""Small videos of numbered frames, and short audio signals with known onsets and amplitudes.

The upper half of a frame shows its number in binary as eight bars. The lower half is red on the
left and blue on the right, so a rotated or mirrored frame is detected.
"""

import struct
import subprocess
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import soundfile
from numpy.typing import NDArray

from loris_cli.video.ffmpeg_program import find_ffmpeg

Pixels = NDArray[np.uint8]
Samples = NDArray[np.float32]

TIME_BASE_HZ = 60_000  # MPEG-4 part 2 has 16 bits for it
AUDIO_HZ = 44_100


def draw_numbered_frame(number: int, width: int = 160, height: int = 120) -> Pixels:
    """Draw a frame with its number (0 to 255), ``(height, width, 3)``."""
    image = np.zeros((height, width, 3), np.uint8)
    bars = np.array([255 * (number >> bit & 1) for bit in range(8)], np.uint8)
    image[: height // 2] = bars[np.arange(width) * 8 // width][None, :, None]
    image[height // 2 :, : width // 2] = (220, 30, 30)
    image[height // 2 :, width // 2 :] = (30, 30, 220)
    return image


def read_frame_number(image: Pixels) -> int:
    """Return the number of a frame of any size."""
    height, width = image.shape[:2]
    centres = (np.arange(8) * 2 + 1) * width // 16
    return int(
        sum((image[height // 4, x].mean() > 128) << bit for bit, x in enumerate(centres))
    )


def is_upright(image: Pixels) -> bool:
    """Whether red is at the lower left and blue at the lower right."""
    height, width = image.shape[:2]
    red = image[height * 3 // 4, width // 4].astype(int)
    blue = image[height * 3 // 4, width * 3 // 4].astype(int)
    return bool(red[0] - red[2] > 80 and blue[2] - blue[0] > 80)


def make_click(
    seconds: float, at_s: float, *, rate_hz: int = AUDIO_HZ, hz: float = 1000.0
) -> Samples:
    """Return silence with 50 ms of a tone that begins at ``at_s``, ``(1, samples)``."""
    times = np.arange(round(seconds * rate_hz)) / rate_hz - at_s
    tone = 0.5 * np.sin(2 * np.pi * hz * times) * ((times >= 0) & (times < 0.05))
    return tone[None].astype(np.float32)


def make_tone(
    seconds: float, hz: float, amplitude: float, *, rate_hz: int = AUDIO_HZ
) -> Samples:
    """Return a sine of constant amplitude, ``(1, samples)``."""
    times = np.arange(round(seconds * rate_hz)) / rate_hz
    return (amplitude * np.sin(2 * np.pi * hz * times))[None].astype(np.float32)


def find_onset_s(samples: Samples, rate_hz: int) -> float:
    """Return the time at which the first channel reaches a quarter of its peak."""
    magnitude = np.abs(samples[0])
    return float(np.flatnonzero(magnitude > magnitude.max() / 4)[0] / rate_hz)


def measure_tone_amplitude(samples: Samples, hz: float, rate_hz: int) -> float:
    """Return the amplitude of a sine in the mean of all channels."""
    mono = samples.mean(axis=0).astype(np.float64)
    phasor = np.exp(-2j * np.pi * hz * np.arange(mono.size) / rate_hz)
    return float(2 * abs(mono @ phasor) / mono.size)


def write_video(
    path: Path,
    *,
    n_frames: int = 12,
    fps: Fraction | int = 10,
    times_s: Sequence[float] | None = None,
    size: tuple[int, int] = (160, 120),
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    b_frames: int = 0,
    gop_size: int = 12,
    start_s: float = 0.0,
    quarter_turns: int = 0,
    sound: Samples | None = None,
    audio_start_s: float = 0.0,
    audio_codec: str = "aac",
    options: dict[str, str] | None = None,
) -> Path:
    """Write a video of numbered frames and return its path.

    Args:
        path: output file; its suffix selects the container.
        n_frames: number of frames at a constant rate, if ``times_s`` is None.
        fps: frame rate.
        times_s: presentation times of the frames, for a variable rate.
        size: ``(width, height)`` as displayed.
        codec: video encoder.
        pixel_format: pixel format, ``yuv420p10le`` for 10 bits.
        b_frames: maximum number of consecutive B-frames.
        gop_size: distance between key frames, in frames.
        start_s: offset of all presentation times.
        quarter_turns: clockwise quarter turns of the stored frames.
        sound: audio, ``(channels, samples)`` at 44,100 Hz.
        audio_start_s: container time of the first sample.
        audio_codec: audio encoder.
        options: container options.
    """
    width, height = size if quarter_turns % 2 == 0 else size[::-1]
    frame_times_s = (
        times_s if times_s is not None else [float(k / Fraction(fps)) for k in range(n_frames)]
    )
    with av.open(str(path), "w", options=options or {}) as out:
        video = out.add_stream(codec, rate=Fraction(fps))
        assert isinstance(video, av.VideoStream)
        video.width, video.height, video.pix_fmt = width, height, pixel_format
        video.codec_context.time_base = Fraction(1, TIME_BASE_HZ)
        video.codec_context.max_b_frames = b_frames
        video.codec_context.gop_size = gop_size
        if codec == "libx264":
            video.options = {
                "preset": "ultrafast",
                "crf": "10",
                "sc_threshold": "0",
                "bf": str(b_frames),
                "b-adapt": "0",
            }
        if path.suffix == ".avi":  # supports only constant rates
            video.codec_context.time_base = 1 / Fraction(fps)
        if codec == "libx265":
            video.options = {"preset": "ultrafast", "x265-params": "log-level=none"}
        audio: av.AudioStream | None = None
        if sound is not None:
            layout = "mono" if len(sound) == 1 else "stereo"
            stream = out.add_stream(audio_codec, rate=AUDIO_HZ, layout=layout)
            assert isinstance(stream, av.AudioStream)
            audio = stream
        for number, time_s in enumerate(frame_times_s):
            image = np.ascontiguousarray(
                np.rot90(draw_numbered_frame(number % 256, *size), -quarter_turns)
            )
            frame = av.VideoFrame.from_ndarray(image, "rgb24")
            frame = frame.reformat(format=pixel_format)
            frame.pts = round((time_s + start_s) * TIME_BASE_HZ)
            frame.time_base = Fraction(1, TIME_BASE_HZ)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        if sound is not None and audio is not None:
            block = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound), "fltp", layout)
            block.sample_rate = AUDIO_HZ
            block.time_base = Fraction(1, AUDIO_HZ)
            block.pts = round(audio_start_s * AUDIO_HZ)
            out.mux(audio.encode(block))
            out.mux(audio.encode(None))
    return path


def run_ffmpeg(*arguments: str | Path) -> None:
    """Run the ffmpeg program that loris runs."""
    command = [find_ffmpeg(), "-nostdin", "-v", "error", "-y"]
    subprocess.run([*command, *map(str, arguments)], check=True)


def write_rotated_video(source: Path, out: Path, degrees: int) -> Path:
    """Copy a video and add a display matrix that rotates it counterclockwise."""
    run_ffmpeg("-display_rotation", str(degrees), "-i", source, "-c", "copy", out)
    return out


def write_wav(path: Path, samples: Samples, rate_hz: int = 22_050) -> Path:
    """Write a float WAV of ``(channels, samples)`` and return its path."""
    soundfile.write(path, samples.T, rate_hz, subtype="FLOAT")
    return path


def edit_tracks(path: Path, edits_s: list[tuple[float, float]]) -> None:
    """Replace the edit list of every track of an MP4 file by other shown ranges."""
    content = bytearray(path.read_bytes())
    rate = struct.unpack_from(">I", content, content.index(b"mvhd") + 16)[0]
    at = 0
    while (at := content.find(b"elst", at + 1)) > 0:
        media_rate = struct.unpack_from(">I", content, content.index(b"mdhd", at) + 16)[0]
        first = struct.unpack_from(">i", content, at + 16)[0]
        entries = b"".join(
            struct.pack(
                ">IiHH", round((end - start) * rate), first + round(start * media_rate), 1, 0
            )
            for start, end in edits_s
        )
        new = bytes(4) + struct.pack(">I", len(edits_s)) + entries
        n_added = len(new) - 20  # the old list has one entry
        content[at + 4 : at + 24] = new
        for name in (b"elst", b"edts", b"trak", b"moov"):
            box = content.rindex(name, 0, at + 4) - 4
            size = struct.unpack_from(">I", content, box)[0]
            struct.pack_into(">I", content, box, size + n_added)
    path.write_bytes(content)
