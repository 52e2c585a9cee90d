"""A stand-in for the paper's data set that anyone can make: bodies that dance to made-up music.

seed -> piece, its sound -> a body that strikes with it -> raw video -> `prep.prepare_video`

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

from loris_cli.composition.midi_synthesis import render_score
from loris_cli.composition.styles import STYLES, STYLES_BY_NAME
from loris_cli.config import POSE_FPS, SAMPLE_RATE_HZ
from loris_cli.dataset.clip_cutting import CUTTING_RULES, PrepSettings
from loris_cli.dataset.extract_poses import POSES_SUFFIX
from loris_cli.dataset.prepare_video import PrepContext, prepare_video
from loris_cli.dataset.records import Record, hash_file
from loris_cli.dataset.source_names import ACTIVITIES, Activity
from loris_cli.errors import LorisError
from loris_cli.pose.keypoints import Poses, write_poses
from loris_cli.pose.overlay import draw_skeleton, write_mp4
from loris_cli.synthetic.composer import MusicalScore, compose_score
from loris_cli.synthetic.dancer import DancePerformance, simulate_dance
from loris_cli.synthetic.motion import build_impact_motion
from loris_cli.synthetic.render import render_video
from loris_cli.synthetic.scene import RoomName
from loris_cli.system.atomic_files import atomic_write
from loris_cli.video.mux import mux_audio

RAW_VIDEO_FOLDER = "raw"
"""Where the videos lie that the data set is made of."""
MIN_CLIPS_PER_PARTITION = 2
"""Clips of each subset in each split."""
HELD_OUT_SHARE = 0.05
RENDERED_SIZE_PX = (320, 240)
STICK_FIGURE_SIZE_PX = (160, 120)
SCENE_OF_ACTIVITY: dict[Activity, RoomName] = {"dance": "gym", "floor": "gym", "skate": "rink"}
N_DANCE_STYLES = 10
"""The first styles are AIST's."""
FIRST_SEED, SEED_STEP = 10_000_000, 1_000_000
"""Splits and kinds have seeds so far apart, and from those that the embedded model was trained
on (`dataset.synthetic`): no clip is ever another's."""


@dataclass(frozen=True, kw_only=True)
class SyntheticVideoTask:
    """One made-up video, and how it is worked on."""

    source_path: Path
    context: PrepContext
    activity: Activity
    style: str
    seed: int
    is_rendered: bool
    """Whether it is rendered to pixels."""

    def hash_source(self) -> tuple[str, int]:
        """The video's sha256 and size."""
        return hash_file(self.source_path)


def list_synthetic_videos(
    data_dir: Path, n_clips: int, *, seed: int = 0
) -> list[SyntheticVideoTask]:
    """The videos of a whole data set, none of them made yet.

    Args:
        data_dir: the data set's folder.
        n_clips: of each subset, in all splits; at least two a split are made. A video of sport
            gives one clip of 50 s and two of 25 s.
        seed: another one gives other clips.
    """
    held_out = max(MIN_CLIPS_PER_PARTITION, round(HELD_OUT_SHARE * n_clips))
    counts = {
        "train": max(MIN_CLIPS_PER_PARTITION, n_clips - 2 * held_out),
        "val": held_out,
        "test": held_out,
    }
    found = []
    for kind_number, kind in enumerate(ACTIVITIES):
        for split_number, (split, count) in enumerate(counts.items()):
            for number in range(count):
                place = (seed * len(ACTIVITIES) + kind_number) * len(counts) + split_number
                own = FIRST_SEED + place * SEED_STEP + number
                style = STYLES[own % N_DANCE_STYLES].name if kind == "dance" else kind
                found.append(
                    SyntheticVideoTask(
                        source_path=data_dir
                        / RAW_VIDEO_FOLDER
                        / f"{kind}-{split}-{seed}-{number:06d}.mp4",
                        context=PrepContext(
                            data_dir=data_dir,
                            settings=PrepSettings(
                                activity=kind,
                                genre=style,
                                separator="none",
                                pose_estimator="embedded" if split == "test" else "beside",
                                synthetic=True,
                                partition=split,
                            ),
                        ),
                        activity=kind,
                        style=style,
                        seed=own,
                        is_rendered=split == "test",
                    )
                )
    return found


def prepare_synthetic_video(task: SyntheticVideoTask) -> Record | LorisError:
    """Make a video, unless it is there, and prepare it as any other."""
    try:
        if not task.source_path.exists():
            make_synthetic_video(task)
        return prepare_video(task.source_path, task.context)
    except LorisError as error:
        return error


def make_synthetic_video(task: SyntheticVideoTask) -> None:
    """Compose, dance, draw and join the two.

    Args:
        task: which video; it lasts as long as its kind's longest clip takes.

    Raises:
        MissingDependencyError: the synthesiser is absent.
        OutputError: the video cannot be written.
    """
    duration_s = required_duration_s(task.activity)
    score = compose_score(task.seed, STYLES_BY_NAME[task.style], duration_s)
    body = simulate_dance(
        task.seed, score.accents_s, score.strengths, duration_s=duration_s, energy=score.energy
    )
    task.source_path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        silent, sound = Path(folder, "silent.mp4"), Path(folder, "sound.wav")
        samples = render_score(score.arrangement, duration_s=duration_s, seed=task.seed)
        soundfile.write(sound, samples, SAMPLE_RATE_HZ)
        if task.is_rendered:
            _render_dancer(silent, task, body, score)
        else:
            write_mp4(silent, _draw_stick_figures(body.poses), POSE_FPS, STICK_FIGURE_SIZE_PX)
            beside = task.source_path.with_name(task.source_path.stem + POSES_SUFFIX)
            with atomic_write(beside, overwrite=True) as part:
                write_poses(part, body.poses)
        with atomic_write(task.source_path, overwrite=True) as part:
            mux_audio(
                silent, sound, part, original_gain_db=None, tags={"comment": "made up by loris"}
            )


def required_duration_s(activity: Activity) -> float:
    """What a video must last to give a clip of each length."""
    recipe = CUTTING_RULES[activity]
    return max(cut.duration_s for cut in recipe.length_rules) + 2 * recipe.trim_s


def _render_dancer(
    path: Path, task: SyntheticVideoTask, performance: DancePerformance, score: MusicalScore
) -> None:
    """A rendered body that strikes when the dancer does, as hard as the accents are."""
    strengths = np.interp(performance.impacts_s, score.accents_s, score.strengths)
    motion = build_impact_motion(
        performance.impacts_s,
        strengths,
        duration_s=score.duration_s,
        rng=np.random.default_rng([task.seed, 5]),
    )
    render_video(
        path,
        motion,
        fps=POSE_FPS,
        size=RENDERED_SIZE_PX,
        seed=task.seed,
        room_name=SCENE_OF_ACTIVITY[task.activity],
    )


def _draw_stick_figures(poses: Poses) -> Iterator[NDArray[np.uint8]]:
    """A stick figure on black, frame by frame."""
    scale = np.array([*(np.array(STICK_FIGURE_SIZE_PX) / poses.size), 1.0])
    ground = np.zeros((STICK_FIGURE_SIZE_PX[1], STICK_FIGURE_SIZE_PX[0], 3), np.uint8)
    for joints in poses.keypoints:
        yield draw_skeleton(ground, joints * scale)
