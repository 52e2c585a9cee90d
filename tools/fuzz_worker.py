"""Worker process of ``fuzz_media.py``: reads and copies mutated files, and checks the results.

Standard input is JSON: ``[folder, {container: file}, [name, ...]]``.
Each case is reported on a line of standard output before it begins, and its outcome after it.
"""

import importlib
import json
import math
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile
from fuzz_mutations import mutate

from loris_cli.errors import InputError, LorisError
from loris_cli.system.atomic_files import atomic_write
from loris_cli.video.audio_track import read_audio_blocks
from loris_cli.video.containers import open_container, require_video_stream
from loris_cli.video.frames import read_frames, read_frames_at_fps
from loris_cli.video.mux import mux_audio
from loris_cli.video.output_formats import select_output_suffix
from loris_cli.video.probe import VideoInfo, probe_video
from loris_cli.video.timestamps import read_packets

RATE_HZ = 22_050
ADDRESS_SPACE_BYTES = 3 * 2**30
FILE_SIZE_BYTES = 256 * 2**20
MAX_TIME_ERROR_S = 0.002  # Matroska stores milliseconds
MEMORY_MESSAGES = ("Cannot allocate memory", "out of memory")

Units = tuple[bytes, ...]


@dataclass
class Findings:
    """Problems, warnings and exit code of one case."""

    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    exit_code: int = 0

    def check(self, passed: bool, problem: str) -> None:
        """Record a problem unless a check has passed."""
        if not passed:
            self.problems.append(problem)

    def run(self, stage: str, function: Callable[[], Any]) -> Any:
        """Call a stage. A `LorisError` sets the exit code; other exceptions are problems."""
        try:
            return function()
        except LorisError as error:
            self.exit_code = self.exit_code or error.exit_code
            text = f"{stage}: {error}"
            allowed = type(error) in {LorisError, InputError} and bool(error.hint)
            self.check(allowed and "\n" not in error.hint, f"{text} ({type(error).__name__})")
            self.check(not any(message in text for message in MEMORY_MESSAGES), text)
            self.warnings.append(text)
        except Exception as error:
            self.problems.append(f"{stage}: {type(error).__name__}: {error}")
        return None


def check_file(path: Path, *, seed: int) -> Findings:
    """Run probe, frames, audio and mux on a file, and check what they return.

    Args:
        path: media file, alone in its folder.
        seed: every third one writes Matroska, the others that of `select_output_suffix`.
    """
    found = Findings()
    info = found.run("probe", partial(probe_video, path, on_warning=found.warnings.append))
    times_s = found.run("frames", partial(_check_frames, path, info, found))
    found.run("audio", partial(_check_audio, path, found))
    if info is not None:
        out = path.with_name("out" + (select_output_suffix(path)[0] if seed % 3 else ".mkv"))
        found.run("mux", partial(_mux, path, out))
        found.check(out.exists() or found.exit_code != 0, "mux: no output")
        if out.exists():
            found.run("output", partial(_check_output, path, info, times_s, out, found))
            out.unlink()
    leftover = [entry.name for entry in path.parent.iterdir() if entry != path]
    found.check(not leftover, f"files left: {leftover}")
    return found


def _check_frames(path: Path, info: VideoInfo | None, found: Findings) -> list[float]:
    times_s, shapes = [], set()
    for frame in read_frames(path, on_warning=found.warnings.append):
        times_s.append(frame.time_s)
        shapes.add(frame.rgb.shape)
    found.check(times_s[0] == 0, f"frames: the first is at {times_s[0]} s")
    found.check(len(shapes) == 1, f"frames: of the sizes {shapes}")
    found.check(all(np.diff(times_s) > 0), "frames: times do not rise")
    if info is not None:
        found.check(next(iter(shapes))[:2] == (info.height, info.width), "frames: probed size")
        n_frames = sum(1 for _ in read_frames_at_fps(info, 2.0, max_side_px=64))
        found.check(n_frames >= math.floor(info.duration_s * 2), f"frames: {n_frames} at 2 fps")
    return times_s


def _check_audio(path: Path, found: Findings) -> None:
    shapes = set()
    for block in read_audio_blocks(path, rate_hz=RATE_HZ, block_s=1.0):
        shapes.add(block.shape[0])
        found.check(bool(np.isfinite(block).all()), "audio: not finite")
    found.check(len(shapes) < 2, f"audio: channels change: {shapes}")


def _mux(path: Path, out: Path) -> None:
    audio = path.parent.parent / "audio.wav"
    with atomic_write(out, overwrite=False) as temporary:
        mux_audio(path, audio, temporary, tags={"comment": "test"})


def _check_output(
    path: Path, info: VideoInfo, times_s: list[float] | None, out: Path, found: Findings
) -> None:
    """Check that an output has rising times and the video packets of the input."""
    written, source = list(_read_packets(out)), list(_read_packets(path))
    times = [packet.time for packet in written if packet.time is not None]
    found.check(len(times) == len(written) == len(set(times)), "output: times do not rise")
    units, source_units = [p.units for p in written], [p.units for p in source]
    # The ffmpeg program is newer than PyAV, and may read more of a damaged file.
    reads_more = len(units) > len(source_units) and _is_subsequence(source_units, units)
    found.check(reads_more or _is_subsequence(units, source_units), "output: packets differ")
    has_hidden = any(packet.is_discard for packet in source)
    is_damaged = found.exit_code or found.warnings or info.truncated or reads_more
    if is_damaged or has_hidden or times_s is None:
        return
    out_times_s = [frame.time_s for frame in read_frames(out)]
    found.check(len(times_s) == len(out_times_s), f"output: {len(out_times_s)} frames")
    if len(times_s) == len(out_times_s):
        error_s = float(np.abs(np.subtract(times_s, out_times_s)).max())
        found.check(error_s < MAX_TIME_ERROR_S, f"output: times differ by {error_s:.3f} s")


def _is_subsequence(part: list[Units], whole: list[Units]) -> bool:
    remaining = iter(whole)
    return all(units in remaining for units in part)


class _VideoPacket(NamedTuple):
    time: int | None
    units: Units
    is_discard: bool


def _read_packets(path: Path) -> Iterator[_VideoPacket]:
    """Yield the time and the data of each video packet; H.264 as its NAL units."""
    with open_container(path) as container:
        stream = require_video_stream(container, path)
        context = stream.codec_context
        has_lengths = (context.extradata or b"")[:1] == b"\1"
        for packet in read_packets(container, [stream], stream):
            data = bytes(packet)
            if not data:
                continue
            units: Units = (data,)
            if context.name == "h264":
                units = tuple(_split_by_length(data) if has_lengths else _split_by_start(data))
            yield _VideoPacket(packet.pts, units, packet.is_discard)


def _split_by_start(data: bytes) -> Iterator[bytes]:
    for unit in data.split(b"\0\0\1")[1:]:
        if unit.rstrip(b"\0"):
            yield unit.rstrip(b"\0")


def _split_by_length(data: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4])
        if unit := data[at + 4 : at + 4 + size].rstrip(b"\0"):
            yield unit
        at += 4 + size


def run_case(name: str, source: Path, folder: Path, *, keep: bool = False) -> Findings:
    """Mutate a file of the corpus and check it.

    Args:
        name: ``container:mutation:seed``.
        source: file of the container.
        folder: folder with ``audio.wav``, in which a folder of the case is created.
        keep: whether to keep the mutated file.
    """
    _, mutation, seed = name.split(":")
    case_folder = folder / name.replace(":", "-")
    case_folder.mkdir()
    path = case_folder / f"video{source.suffix}"
    path.write_bytes(mutate(source, mutation, int(seed)))
    try:
        return check_file(path, seed=int(seed))
    finally:
        if not keep:
            shutil.rmtree(case_folder, ignore_errors=True)


def write_audio(folder: Path) -> None:
    """Write the audio of 1 s that every output gets."""
    tone = 0.25 * np.sin(np.arange(RATE_HZ) * 0.05)
    soundfile.write(folder / "audio.wav", tone, RATE_HZ, subtype="FLOAT")


def limit_resources() -> None:
    """Limit the address space and the size of files, where the system can."""
    try:
        resource = importlib.import_module("resource")
    except ImportError:  # Windows
        return
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE_BYTES, ADDRESS_SPACE_BYTES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_SIZE_BYTES, FILE_SIZE_BYTES))


def main() -> None:
    """Run the cases of standard input."""
    folder, sources, names = json.load(sys.stdin)
    limit_resources()
    for name in names:
        print(json.dumps({"begin": name}), flush=True)
        source = Path(sources[name.split(":")[0]])
        found = run_case(name, source, Path(folder))
        outcome = {"end": name, "exit_code": found.exit_code, "problems": found.problems}
        print(json.dumps(outcome), flush=True)


if __name__ == "__main__":
    main()
