"""Import the published data set.

archives -> tree {dance,fe,fs}/{audio,i3d,pose2d}_{s25,s50}/CLIP -> one record per clip

The release is imported unmodified: poses are subsampled and have no fixed frame rate, partition
lists contain paths of the authors' machine, and some ids lack ``_seg0`` in one modality
(docs/differences.md, D4, D9, D10). Only the clip names of the lists are used, to record the
official partition; the manifest assigns its own partitions.
"""

import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from loris_cli.config import POSE_FPS, SAMPLE_RATE_HZ
from loris_cli.dataset.archives import unpack_archive
from loris_cli.dataset.clip_cutting import PrepSettings, Segment
from loris_cli.dataset.clip_media import ClipMedia
from loris_cli.dataset.extract_audio import fix_length
from loris_cli.dataset.manifest import VISUAL_ENCODERS
from loris_cli.dataset.prepare_video import PrepContext, PrepTask
from loris_cli.dataset.records import Record, hash_file, read_lines
from loris_cli.dataset.source_names import Activity, parse_source_name
from loris_cli.dataset.write_clip import write_clip
from loris_cli.errors import InputError
from loris_cli.pose.keypoints import MAX_COORDINATE_PX, MAX_FRAMES, MAX_SIDE_PX, Poses
from loris_cli.system.progress import Reporter

Array = NDArray[Any]

UNPACKED_FOLDER = "unpacked"
ACTIVITY_OF_FOLDER: dict[str, tuple[Activity, str]] = {
    "dance": ("dance", "da"),
    "fe": ("floor", "fe"),
    "fs": ("skate", "fs"),
}
"""Activity and prefix of its subset names, by folder of the release."""
MODALITY = re.compile(r"(?P<modality>audio|i3d|pose2d)(_[a-z]+)?_s(?P<length>25|50)(_[a-z]+)?")
"""Folder name of a modality."""
I3D_TRAINING_SETS = {"charades": "charades", "kinetics": "kinetics", "imagenet": "kinetics"}
"""Training set of an I3D by the word in its folder name. The authors of I3D label their weights
for Kinetics with ImageNet pre-training "imagenet"."""
PARTITION_LIST = re.compile(r"(dance|fe|fs)_audio_s(25|50)_(train|test)_segment\.txt")
SEGMENT_SUFFIX = re.compile(r"_seg\d+$")
I3D_WIDTH = 1024
AUDIO_TOLERANCE_S = 1.0
"""Audio shorter than its clip by more than this is rejected."""


@dataclass(frozen=True, kw_only=True)
class ReleasedClipTask(PrepTask):
    """Import of one clip of the release. The source file is the audio file."""

    segment: Segment
    poses: Path | None
    visual: tuple[tuple[str, Path], ...]
    """Pairs of encoder and visual feature file."""
    official_partition: str

    def hash_source(self) -> tuple[str, int]:
        """Return the hash of the name and all files of the clip, and the size of its audio.

        The audio alone does not identify a clip: the nine camera views of a dance have the same
        music.
        """
        features = (path for _, path in self.visual)
        paths = filter(None, (self.source_path, self.poses, *features))
        files = [hash_file(path) for path in paths]
        parts = [self.segment.subset, self.source_path.stem, *(sha256 for sha256, _ in files)]
        return hashlib.sha256(" ".join(parts).encode()).hexdigest(), files[0][1]

    def make_clips(self, sha256: str, reporter: Reporter) -> Record:
        """Write the files of the clip and return its manifest row."""
        path, segment, settings = self.source_path, self.segment, self.context.settings
        source_name = SEGMENT_SUFFIX.sub("", path.stem)
        source = parse_source_name(source_name, activity=settings.activity)
        if source is None or source.activity != settings.activity:
            raise InputError(
                f"{path.name} is not a clip name of the published data set",
                hint="expected a source name, optionally followed by _seg0, _seg1, ...",
            )
        audio, length_s = read_release_audio(path, segment.duration_s)
        poses = read_release_poses(self.poses, segment.duration_s) if self.poses else None
        row = write_clip(
            ClipMedia(
                mix=audio,
                accompaniment=audio,
                poses=poses,
                visual={name: read_release_features(file) for name, file in self.visual},
                frame_size_px=poses.size if poses else (0, 0),
            ),
            clip_id=f"{path.stem}-{segment.subset}",
            segment=segment,
            source_name=source_name,
            source=source,
            data_dir=self.context.data_dir,
            settings=settings,
        )
        if length_s < segment.duration_s - AUDIO_TOLERANCE_S:
            row["rejection_reasons"].append("too short")
        row |= {
            "official_partition": self.official_partition,
            "pose_source": "released" if poses else "none",
            "separator": "released",
        }
        return {"clips": [row]}


def list_released_clips(release: Path, data_dir: Path) -> list[ReleasedClipTask]:
    """Return the clips of a release. Archives are unpacked into the data set folder.

    Args:
        release: folder of the unpacked release, of its archives, or of both.
        data_dir: data set folder.

    Raises:
        InputError: no clips were found, an archive is damaged or unsafe, or a link points
            outside the release folder.
    """
    for path in _walk_files(release):
        if path.suffix.lower() == ".zip":
            folder = path.relative_to(release).with_suffix("")
            unpack_archive(path, data_dir / UNPACKED_FOLDER / folder)
    files: dict[tuple[str, str, str], dict[str, Path]] = defaultdict(dict)
    official: dict[tuple[str, str, str], str] = {}
    for root in (release, data_dir / UNPACKED_FOLDER):
        for path in _walk_files(root):
            if match := PARTITION_LIST.fullmatch(path.name):
                domain, length, partition = match.groups()
                for line in read_lines(path):  # yourpath/dataset/LORIS/.../CLIP.wav
                    stem = PurePosixPath(line.replace("\\", "/")).stem
                    official[domain, length, stem] = partition
            elif location := _parse_location(path, root):
                files[location].setdefault(path.stem, path)
    tasks = []
    for (domain, modality, length), audio_files in sorted(files.items()):
        if modality != "audio":
            continue
        activity, prefix = ACTIVITY_OF_FOLDER[domain]
        subset, duration_s = f"{prefix}{length}", float(length)
        segment = Segment(subset=subset, index=0, start_s=0.0, duration_s=duration_s)
        settings = PrepSettings(activity=activity, separator="none")
        for stem, path in sorted(audio_files.items()):
            counterparts = {
                name: file
                for name in ("pose2d", *VISUAL_ENCODERS)
                if (file := _find_counterpart(files.get((domain, name, length), {}), stem))
            }
            tasks.append(
                ReleasedClipTask(
                    source_path=path,
                    context=PrepContext(data_dir=data_dir, settings=settings),
                    segment=segment,
                    poses=counterparts.pop("pose2d", None),
                    visual=tuple(counterparts.items()),
                    official_partition=official.get((domain, length, stem), ""),
                )
            )
    if not tasks:
        raise InputError(
            f"no clips of the published data set in {release}",
            hint="expected clips in dance/audio_s25, fe/audio_s50, ...",
        )
    return tasks


def _walk_files(root: Path) -> Iterator[Path]:
    """Yield the non-hidden files below a folder, sorted by name within each folder."""
    inside = os.path.join(os.path.realpath(root), "")
    for folder, _, names in os.walk(root):
        for name in sorted(names):
            path = Path(folder, name)
            if name.startswith("."):
                continue
            if not os.path.realpath(path).startswith(inside):
                raise InputError(
                    f"{path} links to a file outside {root}",
                    hint="replace the link with a copy of the file",
                )
            yield path


def _parse_location(path: Path, root: Path) -> tuple[str, str, str] | None:
    """Return domain, modality and length of a file, from the names of its folders."""
    folders = path.relative_to(root).parts[:-1]
    matches = [match for name in folders[-2:] if (match := MODALITY.fullmatch(name))]
    domains = [name for name in folders if name in ACTIVITY_OF_FOLDER]
    if not matches or not domains:
        return None
    modality, length = matches[-1]["modality"], matches[-1]["length"]
    if path.suffix.lower() != (".wav" if modality == "audio" else ".npy"):
        return None
    if modality == "i3d":
        below = "/".join(folders[folders.index(domains[-1]) :])
        words = re.split(r"[^a-z]+", below.lower())
        trained_on = [name for word, name in I3D_TRAINING_SETS.items() if word in words]
        modality = f"i3d-{trained_on[0]}" if trained_on else "i3d"
    elif not MODALITY.fullmatch(folders[-1]):
        return None
    return domains[-1], modality, length


def _find_counterpart(files: dict[str, Path], stem: str) -> Path | None:
    """Return the file of a clip in another modality, with or without ``_seg0`` in its name."""
    names = (stem, stem.removesuffix("_seg0"), f"{stem}_seg0")
    return next((files[name] for name in names if name in files), None)


def read_release_audio(path: Path, duration_s: float) -> tuple[NDArray[np.float32], float]:
    """Read the audio of a released clip.

    Args:
        path: audio file.
        duration_s: length of the clip, to which the audio is trimmed or padded.

    Returns:
        mono at 22,050 Hz, ``(samples,)``; original duration in seconds, at most 1 s more than
        ``duration_s``.

    Raises:
        InputError: the file is not an audio file.
    """
    try:
        with soundfile.SoundFile(path) as file:
            rate_hz = file.samplerate
            n_samples = round((duration_s + AUDIO_TOLERANCE_S) * rate_hz)
            samples = file.read(n_samples, dtype="float32", always_2d=True).mean(axis=1)
    except (OSError, soundfile.LibsndfileError) as error:
        raise _bad_file_error(path, "is not an audio file") from error
    resampled = soxr.resample(samples, rate_hz, SAMPLE_RATE_HZ)
    return fix_length(resampled, round(duration_s * SAMPLE_RATE_HZ)), len(samples) / rate_hz


def read_release_poses(path: Path, duration_s: float) -> Poses:
    """Read keypoints of the release, resampled to 16 fps.

    The original frame rate is not documented, but the poses cover the whole clip: frame ``k``
    of ``T`` is assumed to be at time ``k / T * duration_s``.

    Args:
        path: ``.npy``, ``(T, 17, 3)``: x and y in px, and a score.
        duration_s: length of the clip.

    Raises:
        InputError: the file is not such an array.
    """
    raw = _read_npy(path)
    fits = raw.ndim == 3 and raw.shape[1:] == (17, 3) and 2 <= len(raw) <= MAX_FRAMES
    if not fits or not np.isfinite(raw).all():
        raise _bad_file_error(path, "is not a finite array of poses, (frames, 17, 3)")
    if np.abs(raw).max() > MAX_COORDINATE_PX:
        raise _bad_file_error(path, f"has a coordinate beyond {MAX_COORDINATE_PX:g} px")
    n_frames = round(duration_s * POSE_FPS)
    position = np.linspace(0, len(raw), n_frames, endpoint=False).clip(0, len(raw) - 1)
    low = position.astype(int)
    high = np.minimum(low + 1, len(raw) - 1)
    weight = (position - low)[:, None, None]
    keypoints = ((1 - weight) * raw[low] + weight * raw[high]).astype(np.float32)
    keypoints[..., 2] = keypoints[..., 2].clip(0, 1)
    largest = np.ceil(keypoints[..., :2].max(axis=(0, 1))).clip(1, MAX_SIDE_PX).astype(int)
    return Poses(
        keypoints=keypoints,
        times_s=np.arange(n_frames) / POSE_FPS,
        fps=POSE_FPS,
        size=(int(largest[0]), int(largest[1])),
        interpolated=~(keypoints[..., 2] > 0).any(axis=1),
        cuts=np.zeros(0, np.int64),
    )


def read_release_features(path: Path) -> NDArray[np.float32]:
    """Read I3D features of the release, ``(rows, 1024)``.

    Raises:
        InputError: the file is not such an array.
    """
    raw = _read_npy(path)
    if not raw.ndim or not len(raw) or raw.size // len(raw) != I3D_WIDTH:
        raise _bad_file_error(path, f"has shape {raw.shape}, expected (rows, {I3D_WIDTH})")
    features: NDArray[np.float32] = raw.reshape(len(raw), I3D_WIDTH).astype(np.float32)
    return features


def _read_npy(path: Path) -> Array:
    """Read a numeric array without unpickling."""
    try:
        raw: Array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise _bad_file_error(path, "is not an array of numbers") from error
    if not isinstance(raw, np.ndarray) or raw.dtype.kind not in "fiu":
        raise _bad_file_error(path, "is not an array of numbers")
    return raw


def _bad_file_error(path: Path, problem: str) -> InputError:
    return InputError(f"{path.name} {problem}", hint="download it again")
