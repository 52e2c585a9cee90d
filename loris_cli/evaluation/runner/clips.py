"""What a benchmark is run on: clips of a data set, pairs of folders, or one file and a video.

manifest | folders | two files -> cases: a true sound, a visual rhythm, a source
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from loris_cli.dataset.aist_names import without_camera
from loris_cli.dataset.manifest import NAME, Clip
from loris_cli.errors import InputError
from loris_cli.evaluation.runner.audio_sources import Recorded
from loris_cli.system.atomic_files import printable
from loris_cli.system.input_paths import VIDEO_SUFFIXES

SUFFIXES = frozenset(".wav .flac .ogg .mp3 .aiff .aif .m4a .aac .opus".split()) | VIDEO_SUFFIXES
"""What is taken out of a folder."""
MADE_UP = "synthesised"
"""The source of clips that have no video; each is a source of its own."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One clip to be met, and what is known of it."""

    id: str
    group: str
    """Clips of one source share it: they are drawn together, and are not strangers."""
    reference: Recorded | None
    """The true sound; None of a video without one."""
    peaks_s: tuple[float, ...] | None = None
    """The visual rhythm, rising seconds; None where it is not known."""
    video: Path | None = None
    """The video itself, where it is at hand."""
    made_up: bool = False
    """The clip was made by rules, not recorded."""
    clip: Clip | None = None
    """Its row of the manifest, if it has one."""


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """A clip that takes no part, and why."""

    id: str
    reason: str


def clips_of_split(
    clips: Sequence[Clip], split: str, *, part: str = "test", n: int | None = None
) -> list[Clip]:
    """The clips of a subset that are held out for testing.

    Args:
        clips: of a manifest.
        split: the subset, such as ``fe50``.
        part: ``test``, ``val`` or ``train``.
        n: no more than so many; the first ones.

    Raises:
        InputError: there is none.
    """
    found = [clip for clip in clips if clip.subset == split and clip.split == part]
    if not found:
        there = ", ".join(sorted({clip.subset for clip in clips if clip.split == part}))
        raise InputError(
            f"the data set has no {part} clips of {split!r}",
            hint=f"it has {there}" if there else f"it has no {part} clips at all",
        )
    return found[:n]


def marked_made_up(data: Path) -> frozenset[str]:
    """Clips whose rows in the manifest say that they are made up."""
    lines = (data / NAME).read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines if line.strip()]
    return frozenset(row["id"] for row in rows if row.get("made_up") is True)


def case_of_clip(data: Path, clip: Clip, *, made_up: bool = False) -> Case | Skipped:
    """A clip of a data set as a case; its sound is looked at, not read.

    Args:
        data: the data set.
        clip: its row of the manifest.
        made_up: whether the row says that the clip is made up.
    """
    audio, rhythm = data / clip.audio, data / clip.rhythm
    if clip.poses and not (data / clip.poses).is_file():
        return Skipped(id=clip.id, reason=f"{printable(clip.poses)} is not there")
    try:
        soundfile.info(audio)
        with np.load(rhythm, allow_pickle=False) as arrays:
            # Where a body is seen its rhythm leads, as it would in a video.
            lacking = [name for name in _told(clip) if name not in arrays]
            if lacking:
                reason = f"{printable(clip.rhythm)} lacks {', '.join(lacking)}"
                return Skipped(id=clip.id, reason=reason)
            peaks = arrays["seen_peaks_s" if clip.poses else "accents_s"]
            peaks_s = tuple(np.asarray(peaks, dtype=np.float64).tolist())
    except soundfile.LibsndfileError:
        return Skipped(id=clip.id, reason=f"{printable(clip.audio)} cannot be read")
    except (OSError, ValueError, KeyError):
        return Skipped(id=clip.id, reason=f"{printable(clip.rhythm)} cannot be read")
    return Case(
        id=clip.id,
        group=group_of(clip),
        reference=Recorded(path=audio),
        peaks_s=peaks_s,
        made_up=made_up or clip.source == MADE_UP,
        clip=clip,
    )


def group_of(clip: Clip) -> str:
    """The source of a clip; of one without a video its own name."""
    return clip.id if clip.source == MADE_UP else without_camera(clip.source)


def paired(
    generated: Path, reference: Path
) -> tuple[list[tuple[str, Path, Path]], list[Skipped]]:
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
            f"{printable(generated)} and {printable(reference)}: a folder and a file",
            hint="give two folders, or two files",
        )
    if not generated.is_dir():
        return [(generated.stem, generated, reference)], []
    made, true = _by_stem(generated, "generated_"), _by_stem(reference, "gt_")
    both = sorted(set(made) & set(true))
    if not both:
        raise InputError(
            f"no file of {printable(generated)} has a namesake in {printable(reference)}",
            hint="name what was generated like its reference: a.wav and a.wav",
        )
    alone = [
        *(
            Skipped(id=stem, reason="has no reference")
            for stem in sorted(set(made) - set(true))
        ),
        *(
            Skipped(id=stem, reason="was not generated")
            for stem in sorted(set(true) - set(made))
        ),
    ]
    return [(stem, made[stem], true[stem]) for stem in both], alone


def digest(keys: Sequence[tuple[str, str]]) -> str:
    """Hash of a data set: of the names and the sounds of its clips, 12 hex digits."""
    told = "".join(f"{name}\t{key}\n" for name, key in sorted(keys))
    return hashlib.sha256(told.encode()).hexdigest()[:12]


def _told(clip: Clip) -> tuple[str, ...]:
    """Arrays that a generator is told of a clip (docs/contracts.md)."""
    seen = ("seen_peaks_s", "seen_strengths", "seen_energy", "looseness") if clip.poses else ()
    return ("accents_s", "strengths", "energy", *seen)


def _by_stem(folder: Path, prefix: str) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in SUFFIXES or path.name.startswith("."):
            continue
        stem = path.stem.removesuffix(".loris").removeprefix(prefix)
        if stem in found:
            raise InputError(
                f"{printable(found[stem])} and {printable(path)} have one name",
                hint="keep one of them",
            )
        found[stem] = path
    return found
