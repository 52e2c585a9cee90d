"""The published data set, as its users have it, brought into our layout.

archives -> tree {dance,fe,fs}/{audio,i3d,pose2d}_{s25,s50}/CLIP -> one record a clip

The release is taken as it is found: poses at any rate and thinned out, lists that name paths of
their authors' machine, ids that lack ``_seg0`` in one modality (specification, D4, D9, D10).
Of a list only the names in it count, and only to tell on which side a clip was; our own splits
are drawn beside it.
"""

import hashlib
import os
import re
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
from loris_cli.dataset.extract_audio import fix_length
from loris_cli.dataset.extract_poses import ExtractedPoses
from loris_cli.dataset.manifest import VISUAL_ENCODERS, Clip
from loris_cli.dataset.prepare_video import (
    PrepContext,
    blank_record,
    failed_record,
    is_up_to_date,
)
from loris_cli.dataset.records import (
    Record,
    hash_file,
    read_record,
    record_path,
    write_record,
)
from loris_cli.dataset.source_names import Activity, parse_source_name
from loris_cli.dataset.write_clip import write_clip
from loris_cli.errors import InputError, LorisError, OutputError
from loris_cli.pose.keypoints import MAX_COORDINATE_PX, MAX_FRAMES, MAX_SIDE_PX, Poses
from loris_cli.system.atomic_files import printable_path

Array = NDArray[Any]

UNPACKED_FOLDER = "unpacked"
ACTIVITY_OF_FOLDER: dict[str, tuple[Activity, str]] = {
    "dance": ("dance", "da"),
    "fe": ("floor", "fe"),
    "fs": ("skate", "fs"),
}
MODALITY_FOLDER = re.compile(
    r"(?P<what>audio|i3d|pose2d)(_[a-z]+)?_s(?P<length>25|50)(_[a-z]+)?"
)
I3D_TRAINING_SETS = {"charades": "charades", "kinetics": "kinetics", "imagenet": "kinetics"}
"""What an I3D was trained on, by the words that folders have for it: in its authors' files the
weights that were trained on Kinetics, after ImageNet, are called by the latter."""
PARTITION_LIST = re.compile(r"(dance|fe|fs)_audio_s(25|50)_(train|test)_segment\.txt")
SEGMENT_SUFFIX = re.compile(r"_seg\d+$")
I3D_WIDTH = 1024
AUDIO_TOLERANCE_S = 1.0
"""Sound that ends so much before its clip is too short."""


@dataclass(frozen=True, kw_only=True)
class ReleasedClipTask:
    """One clip of the release."""

    source_path: Path
    """Its sound: what its record is known by."""
    context: PrepContext
    subset: str
    duration_s: float
    activity: Activity
    poses: Path | None
    visual: tuple[tuple[str, Path], ...]
    """Features of its picture, by who made them."""
    official_partition: str

    def hash_source(self) -> tuple[str, int]:
        """What its record is known by: its name and all its files; the size of its sound.

        The sound alone does not do: the nine cameras of a dance hear the same music.
        """
        parts = [self.subset, self.source_path.stem]
        sizes = []
        features = (path for _, path in self.visual)
        for path in filter(None, (self.source_path, self.poses, *features)):
            sha256, n_bytes = hash_file(path)
            parts.append(sha256)
            sizes.append(n_bytes)
        return hashlib.sha256(" ".join(parts).encode()).hexdigest(), sizes[0]


def unpack_archives(release: Path, data_dir: Path) -> int:
    """Unpack the archives in a release beside the data set's own files.

    Returns:
        how many there are.

    Raises:
        InputError: one is damaged or unsafe.
    """
    archives = [path for path in _walk_files(release) if path.suffix.lower() == ".zip"]
    for archive in archives:
        unpack_archive(
            archive, data_dir / UNPACKED_FOLDER / archive.relative_to(release).with_suffix("")
        )
    return len(archives)


def find_released_clips(release: Path, data_dir: Path) -> list[ReleasedClipTask]:
    """The clips of a release, and of what was unpacked of it.

    Raises:
        InputError: there are none, or a link leads out of the tree.
    """
    found: dict[tuple[str, str, str], dict[str, Path]] = {}
    sides: dict[tuple[str, str], str] = {}
    for root in (release, data_dir / UNPACKED_FOLDER):
        for path in _walk_files(root):
            if listed := PARTITION_LIST.fullmatch(path.name):
                domain, length, side = listed.groups()
                subset = f"{ACTIVITY_OF_FOLDER[domain][1]}{length}"
                sides |= {(subset, stem): side for stem in _read_partition_list(path)}
            elif place := _parse_location(path, root):
                found.setdefault(place, {}).setdefault(path.stem, path)
    clips = []
    for (domain, modality, length), sounds in sorted(found.items()):
        if modality != "audio":
            continue
        kind, short = ACTIVITY_OF_FOLDER[domain]
        for stem, path in sorted(sounds.items()):
            subset = f"{short}{length}"
            clips.append(
                ReleasedClipTask(
                    source_path=path,
                    context=PrepContext(
                        data_dir=data_dir,
                        settings=PrepSettings(activity=kind, separator="none"),
                    ),
                    subset=subset,
                    duration_s=float(length),
                    activity=kind,
                    poses=_find_counterpart(found.get((domain, "pose2d", length), {}), stem),
                    visual=tuple(
                        (by, features)
                        for by in VISUAL_ENCODERS
                        if (
                            features := _find_counterpart(
                                found.get((domain, by, length), {}), stem
                            )
                        )
                    ),
                    official_partition=sides.get((subset, stem), ""),
                )
            )
    if not clips:
        raise InputError(
            f"{printable_path(release)} holds no clips of the published data set",
            hint="its clips lie in dance/audio_s25, fe/audio_s50 and so on",
        )
    return clips


def _walk_files(root: Path) -> Iterator[Path]:
    """Files below a folder by name; hidden ones are left out."""
    inside = os.path.join(os.path.realpath(root), "")
    for folder, _, names in os.walk(root):
        for name in sorted(names):
            path = Path(folder, name)
            if name.startswith("."):
                continue
            if not os.path.realpath(path).startswith(inside):
                raise InputError(
                    f"{printable_path(path)} is a link out of {printable_path(root)}",
                    hint="copy the file to its place",
                )
            yield path


def _parse_location(path: Path, root: Path) -> tuple[str, str, str] | None:
    """Domain, modality and length of a file, by the folders it is in."""
    parts = path.relative_to(root).parts[:-1]
    places = [found for name in parts[-2:] if (found := MODALITY_FOLDER.fullmatch(name))]
    above = [name for name in parts if name in ACTIVITY_OF_FOLDER]
    if not places or not above:
        return None
    what, length = places[-1]["what"], places[-1]["length"]
    if path.suffix.lower() != (".wav" if what == "audio" else ".npy"):
        return None
    if what == "i3d":
        words = re.split(r"[^a-z]+", "/".join(parts[parts.index(above[-1]) :]).lower())
        told = [on for word, on in I3D_TRAINING_SETS.items() if word in words]
        what = f"i3d-{told[0]}" if told else "i3d"
    elif not MODALITY_FOLDER.fullmatch(parts[-1]):
        return None
    return above[-1], what, length


def _read_partition_list(path: Path) -> Iterator[str]:
    """Names of clips in a list; ``yourpath/dataset/LORIS/...`` before them means nothing."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"the list {printable_path(path)} cannot be read", hint="remove it"
        ) from error
    for line in lines:
        if line.strip():
            yield PurePosixPath(line.strip().replace("\\", "/")).stem


def _find_counterpart(files: dict[str, Path], stem: str) -> Path | None:
    """The file of a clip in another modality, whose name may lack ``_seg0`` or have it."""
    for name in (stem, stem.removesuffix("_seg0"), f"{stem}_seg0"):
        if name in files:
            return files[name]
    return None


def import_released_clip(task: ReleasedClipTask) -> Record | LorisError:
    """Bring one clip into the layout, unless it is there."""
    try:
        return _import_unless_done(task)
    except LorisError as error:
        return error


def _import_unless_done(task: ReleasedClipTask) -> Record:
    try:
        key, n_bytes = task.hash_source()
    except InputError as error:
        return failed_record(task.source_path, "", 0, task.context.settings, error)
    known = read_record(record_path(task.context.data_dir, key))
    if known is not None and is_up_to_date(known, task.context):
        return known | {"known": True}
    try:
        clips = [_write_released_clip(task)]
        record = blank_record(task.source_path, key, n_bytes, task.context.settings)
        record["clips"] = clips
    except OutputError:
        raise
    except LorisError as error:
        record = failed_record(task.source_path, key, n_bytes, task.context.settings, error)
    write_record(task.context.data_dir, record)
    return record


def _write_released_clip(task: ReleasedClipTask) -> Record:
    """Files and row of one clip."""
    stem, data = task.source_path.stem, task.context.data_dir
    named = parse_source_name(SEGMENT_SUFFIX.sub("", stem))
    if named is None or named.activity != task.activity:
        raise InputError(
            f"{printable_path(task.source_path.name)} is no name of the published data set",
            hint="its clips are called as their sources are, and _seg0, _seg1 and so on",
        )
    music, length_s = read_release_audio(task.source_path, task.duration_s)
    poses = None if task.poses is None else read_release_poses(task.poses, task.duration_s)
    name = f"{stem}-{task.subset}"
    row = write_clip(
        Clip(
            id=name,
            subset=task.subset,
            partition="",
            duration_s=task.duration_s,
            genre=named.genre,
            source=SEGMENT_SUFFIX.sub("", stem),
            audio=f"audio/{name}.flac",
            rhythm=f"rhythm/{name}.npz",
        ),
        Segment(subset=task.subset, index=0, start_s=0.0, duration_s=task.duration_s),
        data,
        mix=music,
        accompaniment=music,
        extracted_poses=None
        if poses is None
        else ExtractedPoses(poses=poses, persons_per_frame=None),
        visual={by: read_release_features(path) for by, path in task.visual},
        frame_size_px=(0, 0) if poses is None else poses.size,
        gaps_s=(),
        settings=task.context.settings,
    )
    if length_s < task.duration_s - AUDIO_TOLERANCE_S:
        row["rejected"].append("too short")
    return row | {
        "groups": list(named.groups),
        "official_partition": task.official_partition,
        "poses_from": "none" if poses is None else "released",
        "separator": "released",
    }


def read_release_audio(path: Path, duration_s: float) -> tuple[NDArray[np.float32], float]:
    """A clip's sound, mono at 22,050 Hz, as long as its clip; and how long it was.

    Raises:
        InputError: it is no sound file.
    """
    try:
        with soundfile.SoundFile(path) as file:
            most = round((duration_s + AUDIO_TOLERANCE_S) * file.samplerate)
            samples = file.read(most, dtype="float32", always_2d=True).mean(axis=1)
            rate_hz = file.samplerate
    except (OSError, soundfile.LibsndfileError) as error:
        raise InputError(
            f"{printable_path(path.name)} is no sound file", hint="get it again"
        ) from error
    length_s = len(samples) / rate_hz
    ours = soxr.resample(samples, rate_hz, SAMPLE_RATE_HZ)
    return fix_length(ours, round(duration_s * SAMPLE_RATE_HZ)), length_s


def read_release_poses(path: Path, duration_s: float) -> Poses:
    """Keypoints of the release at our rate.

    Their own rate is told nowhere, but they cover their clip; so frame ``k`` of ``T`` is taken
    to be at ``k / T`` of it.

    Args:
        path: ``.npy``, ``(T, 17, 3)``: x and y in pixels, and a score.
        duration_s: length of the clip.

    Raises:
        InputError: it is no such array.
    """
    raw = _read_npy(path)
    fits = raw.ndim == 3 and raw.shape[1:] == (17, 3) and 2 <= len(raw) <= MAX_FRAMES
    if not fits or not np.isfinite(raw).all():
        raise InputError(
            f"{printable_path(path.name)} holds no poses, (frames, 17, 3)", hint="get it again"
        )
    if np.abs(raw).max() > MAX_COORDINATE_PX:
        raise InputError(f"a joint in {printable_path(path.name)} is absurdly far away")
    n_frames = round(duration_s * POSE_FPS)
    at = np.linspace(0, len(raw), n_frames, endpoint=False).clip(0, len(raw) - 1)
    low = at.astype(int)
    high = np.minimum(low + 1, len(raw) - 1)
    part = (at - low)[:, None, None]
    keypoints = ((1 - part) * raw[low] + part * raw[high]).astype(np.float32)
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
    """I3D features of the release, ``(rows, 1024)``.

    Raises:
        InputError: it is no such array.
    """
    raw = _read_npy(path)
    if not raw.ndim or not len(raw) or raw.size // len(raw) != I3D_WIDTH:
        raise InputError(
            f"{printable_path(path.name)} holds {raw.shape}, not rows of {I3D_WIDTH} features",
            hint="get it again",
        )
    features: NDArray[np.float32] = raw.reshape(len(raw), I3D_WIDTH).astype(np.float32)
    return features


def _read_npy(path: Path) -> Array:
    """An array of numbers; nothing is unpickled."""
    try:
        raw: Array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(
            f"{printable_path(path.name)} is no array of numbers", hint="get it again"
        ) from error
    if not isinstance(raw, np.ndarray) or raw.dtype.kind not in "fiu":
        raise InputError(
            f"{printable_path(path.name)} is no array of numbers", hint="get it again"
        )
    return raw
