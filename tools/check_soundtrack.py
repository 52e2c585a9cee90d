"""Look at a soundtrack's file as a stranger would: ``check_soundtrack.py IN OUT``.

The picture is the input's, packet for packet; there is sound, it lasts as long, and it is
decoded from beginning to end.
"""

import sys
from fractions import Fraction

import av
import numpy as np

SILENCE_RMS = 1e-3
"""Level (RMS, of full scale 1) under which a second counts as silent: -60 dB."""


def read_video_packets(path: str) -> list[tuple[Fraction, bytes]]:
    """When each packet of the picture is shown (from the first one on), and its bytes."""
    with av.open(path) as media:
        found = [
            (packet.pts * packet.time_base, bytes(packet))
            for packet in media.demux(video=0)
            if packet.pts is not None and packet.time_base is not None
        ]
    start = min(time for time, _ in found)
    return [(time - start, data) for time, data in found]


def compute_rms_per_second(path: str) -> list[float]:
    """RMS of each whole second of sound, full scale being 1."""
    resampler = av.AudioResampler(format="flt", layout="mono", rate=22_050)
    with av.open(path) as media:
        blocks = [
            part.to_ndarray()[0]
            for frame in media.decode(audio=0)
            for part in resampler.resample(frame)
        ]
    sound = np.concatenate(blocks)
    seconds = sound[: len(sound) // 22_050 * 22_050].reshape(-1, 22_050)
    return [float(level) for level in np.sqrt((seconds**2).mean(axis=1))]


def find_problems(input_path: str, output_path: str) -> list[str]:
    """What is wrong with the file; nothing where all is well."""
    with av.open(output_path) as media:
        if not media.streams.video or not media.streams.audio:
            return ["it has not both picture and sound"]
        picture, sound = media.streams.video[0], media.streams.audio[0]
        rate = picture.average_rate or Fraction(25)
        lengths = [float((s.duration or 0) * (s.time_base or 0)) for s in (picture, sound)]
        sample_rate = sound.codec_context.sample_rate
    levels = compute_rms_per_second(output_path)
    silent = sum(level < SILENCE_RMS for level in levels)
    print(
        f"{output_path}: video {lengths[0]:.3f} s, audio {lengths[1]:.3f} s at {sample_rate} Hz"
        f", {silent} of {len(levels)} seconds silent"
    )
    wrong = []
    if abs(lengths[0] - lengths[1]) > 1 / rate:
        wrong.append("picture and sound differ by more than a frame")
    if not levels or silent > len(levels) / 10:
        wrong.append("the sound is silent")
    if read_video_packets(input_path) != read_video_packets(output_path):
        wrong.append("the picture is not the input's, packet for packet")
    return wrong


if __name__ == "__main__":
    sys.exit("; ".join(find_problems(*sys.argv[1:])) or 0)
