"""A stand-in for the paper's data set that anyone can make: bodies that dance to made-up music.

seed -> piece, its sound -> a body that strikes with it -> raw video -> `prep.prepare`

The test split is rendered to pixels and found again by the pose estimator, as a filmed video
is. Of the others the video shows a stick figure, and the joints lie beside it with the noise
that was measured of the estimator: that is far quicker. Both say so in their rows.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from loris_cli.composition.styles import BY_NAME, STYLES
from loris_cli.config import POSE_FPS, SAMPLE_RATE_HZ
from loris_cli.dataset.clip_cutting import RECIPES, Settings
from loris_cli.dataset.extract_poses import POSES_SUFFIX
from loris_cli.dataset.prepare_video import Work, prepare
from loris_cli.dataset.records import Record, fingerprint
from loris_cli.dataset.source_names import KINDS, Kind
from loris_cli.errors import LorisError
from loris_cli.pose.keypoints import Poses, write_poses
from loris_cli.pose.overlay import draw_skeleton, write_overlay
from loris_cli.synthetic.composer import Score, compose
from loris_cli.synthetic.dancer import Dance, dance
from loris_cli.synthetic.midi_synthesis import render
from loris_cli.synthetic.motion import striking
from loris_cli.synthetic.render import render_video
from loris_cli.synthetic.scene import Place
from loris_cli.system.atomic_files import replacing
from loris_cli.video.mux import mux

RAW = "raw"
"""Where the videos lie that the data set is made of."""
FEWEST = 2
"""Clips of each subset in each split."""
HELD_OUT_SHARE = 0.05
SHOWN_SIZE = (320, 240)
FIGURE_SIZE = (160, 120)
PLACES: dict[Kind, Place] = {"dance": "gym", "floor": "gym", "skate": "rink"}
N_DANCES = 10
"""The first styles are AIST's."""
FIRST_SEED, SEED_STEP = 10_000_000, 1_000_000
"""Splits and kinds have seeds so far apart, and from those that the embedded model was trained
on (`dataset.synthetic`): no clip is ever another's."""


@dataclass(frozen=True, kw_only=True)
class StandIn:
    """One made-up video, and how it is worked on."""

    video: Path
    work: Work
    kind: Kind
    style: str
    seed: int
    rendered: bool
    """Whether it is rendered to pixels."""

    def key(self) -> tuple[str, int]:
        """The video's sha256 and size."""
        return fingerprint(self.video)


def stand_ins(data: Path, n_clips: int, *, seed: int = 0) -> list[StandIn]:
    """The videos of a whole data set, none of them made yet.

    Args:
        data: the data set's folder.
        n_clips: of each subset, in all splits; at least two a split are made. A video of sport
            gives one clip of 50 s and two of 25 s.
        seed: another one gives other clips.
    """
    held_out = max(FEWEST, round(HELD_OUT_SHARE * n_clips))
    counts = {"train": max(FEWEST, n_clips - 2 * held_out), "val": held_out, "test": held_out}
    found = []
    for kind_number, kind in enumerate(KINDS):
        for split_number, (split, count) in enumerate(counts.items()):
            for number in range(count):
                place = (seed * len(KINDS) + kind_number) * len(counts) + split_number
                own = FIRST_SEED + place * SEED_STEP + number
                style = STYLES[own % N_DANCES].name if kind == "dance" else kind
                found.append(
                    StandIn(
                        video=data / RAW / f"{kind}-{split}-{seed}-{number:06d}.mp4",
                        work=Work(
                            data=data,
                            settings=Settings(
                                kind=kind,
                                genre=style,
                                separator="none",
                                poses="embedded" if split == "test" else "beside",
                                made_up=True,
                                split=split,
                            ),
                        ),
                        kind=kind,
                        style=style,
                        seed=own,
                        rendered=split == "test",
                    )
                )
    return found


def make_and_prepare(task: StandIn) -> Record | LorisError:
    """Make a video, unless it is there, and prepare it as any other."""
    try:
        if not task.video.exists():
            make_video(task)
        return prepare(task.video, task.work)
    except LorisError as error:
        return error


def make_video(task: StandIn) -> None:
    """Compose, dance, draw and join the two.

    Args:
        task: which video; it lasts as long as its kind's longest clip takes.

    Raises:
        MissingDependencyError: the synthesiser is absent.
        OutputError: the video cannot be written.
    """
    duration_s = longest_s(task.kind)
    score = compose(task.seed, BY_NAME[task.style], duration_s)
    body = dance(
        task.seed, score.accents_s, score.strengths, duration_s=duration_s, energy=score.energy
    )
    task.video.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        silent, sound = Path(folder, "silent.mp4"), Path(folder, "sound.wav")
        soundfile.write(sound, render(score, seed=task.seed), SAMPLE_RATE_HZ)
        if task.rendered:
            _film(silent, task, body, score)
        else:
            write_overlay(silent, _figures(body.poses), POSE_FPS, FIGURE_SIZE)
            beside = task.video.with_name(task.video.stem + POSES_SUFFIX)
            with replacing(beside, overwrite=True) as part:
                write_poses(part, body.poses)
        with replacing(task.video, overwrite=True) as part:
            mux(silent, sound, part, mix_db=None, tags={"comment": "made up by loris"})


def longest_s(kind: Kind) -> float:
    """What a video must last to give a clip of each length."""
    recipe = RECIPES[kind]
    return max(cut.seconds for cut in recipe.cuts) + 2 * recipe.trim_s


def _film(path: Path, task: StandIn, body: Dance, score: Score) -> None:
    """A rendered body that strikes when the dancer does, as hard as the accents are."""
    strengths = np.interp(body.strikes_s, score.accents_s, score.strengths)
    motion = striking(
        body.strikes_s,
        strengths,
        duration_s=score.duration_s,
        rng=np.random.default_rng([task.seed, 5]),
    )
    render_video(
        path,
        motion,
        fps=POSE_FPS,
        size=SHOWN_SIZE,
        seed=task.seed,
        place=PLACES[task.kind],
    )


def _figures(poses: Poses) -> Iterator[NDArray[np.uint8]]:
    """A stick figure on black, frame by frame."""
    scale = np.array([*(np.array(FIGURE_SIZE) / poses.size), 1.0])
    ground = np.zeros((FIGURE_SIZE[1], FIGURE_SIZE[0], 3), np.uint8)
    for joints in poses.keypoints:
        yield draw_skeleton(ground, joints * scale)
