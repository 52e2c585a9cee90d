"""Check a video with a generated soundtrack: ``check_soundtrack.py INPUT OUTPUT``.

OUTPUT must contain the video packets of INPUT unchanged and a decodable audio track of the same
duration that is not silent. Exits with an error otherwise.
"""

import sys
from fractions import Fraction

import av
import numpy as np

SILENCE_RMS = 1e-3
"""RMS level below which a second of audio counts as silent (full scale 1): -60 dB."""


def read_video_packets(path: str) -> list[tuple[Fraction, bytes]]:
    """Return the presentation time (s, first packet at 0) and the data of each video packet."""
    with av.open(path) as media:
        found = [
            (packet.pts * packet.time_base, bytes(packet))
            for packet in media.demux(video=0)
            if packet.pts is not None and packet.time_base is not None
        ]
    start = min(time for time, _ in found)
    return [(time - start, data) for time, data in found]


def compute_rms_per_second(path: str) -> list[float]:
    """Return the RMS level of each whole second of audio, full scale 1."""
    resampler = av.AudioResampler(format="flt", layout="mono", rate=22_050)
    with av.open(path) as media:
        blocks = [
            part.to_ndarray()[0]
            for frame in media.decode(audio=0)
            for part in resampler.resample(frame)
        ]
    samples = np.concatenate(blocks)
    seconds = samples[: len(samples) // 22_050 * 22_050].reshape(-1, 22_050)
    return [float(level) for level in np.sqrt((seconds**2).mean(axis=1))]


def find_problems(input_path: str, output_path: str) -> list[str]:
    """Return the problems of a file, or an empty list."""
    with av.open(output_path) as media:
        if not media.streams.video or not media.streams.audio:
            return ["the file lacks a video or an audio track"]
        video_stream, audio_stream = media.streams.video[0], media.streams.audio[0]
        rate = video_stream.average_rate or Fraction(25)
        streams = (video_stream, audio_stream)
        lengths = [float((s.duration or 0) * (s.time_base or 0)) for s in streams]
        sample_rate = audio_stream.codec_context.sample_rate
    levels = compute_rms_per_second(output_path)
    silent = sum(level < SILENCE_RMS for level in levels)
    print(
        f"{output_path}: video {lengths[0]:.3f} s, audio {lengths[1]:.3f} s at {sample_rate} Hz"
        f", {silent} of {len(levels)} seconds silent"
    )
    problems = []
    if abs(lengths[0] - lengths[1]) > 1 / rate:
        problems.append("video and audio durations differ by more than a frame")
    if not levels or silent > len(levels) / 10:
        problems.append("more than 10 % of the audio is silent")
    if read_video_packets(input_path) != read_video_packets(output_path):
        problems.append("the video packets differ from those of the input")
    return problems


if __name__ == "__main__":
    sys.exit("; ".join(find_problems(*sys.argv[1:])) or 0)
