"""What a benchmark is run on: clips of a data set, pairs of folders, or one file and a video.

manifest | folders | two files -> cases: a true sound, a visual rhythm, a source
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from loris_cli.dataset.manifest import POSE_RHYTHM_ARRAYS, Clip
from loris_cli.dataset.source_names import normalize_aist_camera
from loris_cli.errors import InputError
from loris_cli.evaluation.runner.audio_sources import RecordedAudio
from loris_cli.system.atomic_files import printable_path
from loris_cli.system.input_paths import VIDEO_SUFFIXES

MEDIA_SUFFIXES = (
    frozenset(".wav .flac .ogg .mp3 .aiff .aif .m4a .aac .opus".split()) | VIDEO_SUFFIXES
)
"""What is taken out of a folder."""
SYNTHETIC_SOURCE = "synthesised"
"""The source of clips that have no video; each is a source of its own."""


@dataclass(frozen=True, kw_only=True)
class EvalClip:
    """One clip to be met, and what is known of it."""

    id: str
    source_group: str
    """Clips of one source share it: they are drawn together, and are not strangers."""
    reference: RecordedAudio | None
    """The true sound; None of a video without one."""
    visual_peaks_s: tuple[float, ...] | None = None
    """The visual rhythm, rising seconds; None where it is not known."""
    video: Path | None = None
    """The video itself, where it is at hand."""
    is_synthetic: bool = False
    """The clip was made by rules, not recorded."""
    manifest_clip: Clip | None = None
    """Its row of the manifest, if it has one."""


@dataclass(frozen=True, kw_only=True)
class SkippedClip:
    """A clip that takes no part, and why."""

    clip_id: str
    reason: str


def select_clips(
    clips: Sequence[Clip], subset: str, *, partition: str = "test", max_clips: int | None = None
) -> list[Clip]:
    """The clips of a subset that are held out for testing.

    Args:
        clips: of a manifest.
        subset: the subset, such as ``fe50``.
        partition: ``test``, ``val`` or ``train``.
        max_clips: no more than so many; the first ones.

    Raises:
        InputError: there is none.
    """
    found = [clip for clip in clips if clip.subset == subset and clip.partition == partition]
    if not found:
        there = ", ".join(
            sorted({clip.subset for clip in clips if clip.partition == partition})
        )
        raise InputError(
            f"the data set has no {partition} clips of {subset!r}",
            hint=f"it has {there}" if there else f"it has no {partition} clips at all",
        )
    return found[:max_clips]


def build_eval_clip(data_dir: Path, clip: Clip) -> EvalClip | SkippedClip:
    """A clip of a data set as a case; its sound is looked at, not read.

    Args:
        data_dir: the data set.
        clip: its row of the manifest.
    """
    audio, rhythm = data_dir / clip.audio, data_dir / clip.rhythm
    if clip.poses and not (data_dir / clip.poses).is_file():
        return SkippedClip(clip_id=clip.id, reason=f"{printable_path(clip.poses)} is not there")
    try:
        soundfile.info(audio)
        with np.load(rhythm, allow_pickle=False) as arrays:
            # Where a body is seen its rhythm leads, as it would in a video.
            lacking = [name for name in _required_rhythm_arrays(clip) if name not in arrays]
            if lacking:
                reason = f"{printable_path(clip.rhythm)} lacks {', '.join(lacking)}"
                return SkippedClip(clip_id=clip.id, reason=reason)
            peaks = arrays["pose_peaks_s" if clip.poses else "accents_s"]
            peaks_s = tuple(np.asarray(peaks, dtype=np.float64).tolist())
    except soundfile.LibsndfileError:
        return SkippedClip(
            clip_id=clip.id, reason=f"{printable_path(clip.audio)} cannot be read"
        )
    except (OSError, ValueError, KeyError):
        return SkippedClip(
            clip_id=clip.id, reason=f"{printable_path(clip.rhythm)} cannot be read"
        )
    return EvalClip(
        id=clip.id,
        source_group=get_source_group(clip),
        reference=RecordedAudio(path=audio),
        visual_peaks_s=peaks_s,
        is_synthetic=clip.synthetic or clip.source == SYNTHETIC_SOURCE,
        manifest_clip=clip,
    )


def get_source_group(clip: Clip) -> str:
    """The source of a clip; of one without a video its own name."""
    return clip.id if clip.source == SYNTHETIC_SOURCE else normalize_aist_camera(clip.source)


def pair_files(
    generated: Path, reference: Path
) -> tuple[list[tuple[str, Path, Path]], list[SkippedClip]]:
    """Files of two folders by their stems, or two files as they are.

    A stem that the authors' script would write, ``generated_3`` beside ``gt_3``, is ``3``.

    Returns:
        stem, generated and reference of each pair, by stem; and what has no partner.

    Raises:
        InputError: one is a folder and the other is not, nothing is in both, or a stem
            stands for two files.
    """
    if generated.is_dir() != reference.is_dir():
        raise InputError(
            f"{printable_path(generated)} and {printable_path(reference)}: a folder and a file",
            hint="give two folders, or two files",
        )
    if not generated.is_dir():
        return [(generated.stem, generated, reference)], []
    made, true = _index_by_stem(generated, "generated_"), _index_by_stem(reference, "gt_")
    both = sorted(set(made) & set(true))
    if not both:
        raise InputError(
            f"no file of {printable_path(generated)} has a namesake in {printable_path(reference)}",
            hint="name what was generated like its reference: a.wav and a.wav",
        )
    alone = [
        *(
            SkippedClip(clip_id=stem, reason="has no reference")
            for stem in sorted(set(made) - set(true))
        ),
        *(
            SkippedClip(clip_id=stem, reason="was not generated")
            for stem in sorted(set(true) - set(made))
        ),
    ]
    return [(stem, made[stem], true[stem]) for stem in both], alone


def hash_dataset(clip_hashes: Sequence[tuple[str, str]]) -> str:
    """Hash of a data set: of the names and the sounds of its clips, 12 hex digits."""
    told = "".join(f"{name}\t{key}\n" for name, key in sorted(clip_hashes))
    return hashlib.sha256(told.encode()).hexdigest()[:12]


def _required_rhythm_arrays(clip: Clip) -> tuple[str, ...]:
    """Arrays that a generator is told of a clip (docs/contracts.md)."""
    return ("accents_s", "strengths", "energy", *(POSE_RHYTHM_ARRAYS if clip.poses else ()))


def _index_by_stem(folder: Path, prefix: str) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in MEDIA_SUFFIXES or path.name.startswith("."):
            continue
        stem = path.stem.removesuffix(".loris").removeprefix(prefix)
        if stem in found:
            raise InputError(
                f"{printable_path(found[stem])} and {printable_path(path)} have one name",
                hint="keep one of them",
            )
        found[stem] = path
    return found
