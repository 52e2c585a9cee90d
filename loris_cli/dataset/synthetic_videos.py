"""Synthetic substitute for the paper's data set: videos of dancers moving to composed music.

seed -> score, audio -> dancer with impacts at the accents -> raw video ->
`prepare_video.prepare_source`

Videos of the test partition are rendered with a realistic dancer, and the pose estimator is run
on them as on a filmed video. Videos of the other partitions show a stick figure, and their pose
file contains the joints with noise that models the measured errors of the estimator, which is
much faster. All manifest rows are marked as synthetic.
"""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import soundfile
from numpy.typing import NDArray

from loris_cli.composition.styles import STYLES, STYLES_BY_NAME
from loris_cli.composition.synthesis import choose_synthesizer, synthesize_training_piece
from loris_cli.composition.synthesizer_settings import DEFAULT_SYNTHESIZER, SynthesizerSettings
from loris_cli.config import POSE_FPS, SAMPLE_RATE_HZ
from loris_cli.dataset.clip_cutting import CUTTING_RULES, PrepSettings
from loris_cli.dataset.extract_poses import POSES_SUFFIX
from loris_cli.dataset.manifest import PARTITIONS
from loris_cli.dataset.prepare_video import PrepContext, PrepTask
from loris_cli.dataset.source_names import ACTIVITIES, GENRE_OF_AIST_CODE, Activity
from loris_cli.errors import UsageError
from loris_cli.pose.keypoints import Poses, write_poses
from loris_cli.pose.overlay import draw_skeleton, write_mp4
from loris_cli.synthetic.composer import MusicalScore, compose_score
from loris_cli.synthetic.dancer import DancePerformance, simulate_dance
from loris_cli.synthetic.motion import build_impact_motion
from loris_cli.synthetic.render import render_video
from loris_cli.synthetic.scene import SceneName
from loris_cli.system.atomic_files import atomic_write
from loris_cli.video.mux import mux_audio

RAW_FOLDER = "raw"
"""Folder of the raw videos in the data set folder."""
MIN_CLIPS_PER_PARTITION = 2
"""Minimum number of videos of each activity in each partition."""
HELD_OUT_FRACTION = 0.05
RENDERED_SIZE_PX = (320, 240)
STICK_FIGURE_SIZE_PX = (160, 120)
SCENE_OF_ACTIVITY: dict[Activity, SceneName] = {"dance": "gym", "floor": "gym", "skate": "rink"}
N_DANCE_STYLES = len(GENRE_OF_AIST_CODE)
"""Number of AIST dance genres; the first entries of `STYLES` are these genres."""
FIRST_SEED, SEED_STEP = 10_000_000, 1_000_000
"""First seed, and distance between the seed ranges of partitions and activities. The ranges are
disjoint from each other and from the training seeds of the built-in model
(`dataset.synthetic_music`)."""


@dataclass(frozen=True, kw_only=True)
class SyntheticTask(PrepTask):
    """Rendering and preparation of one synthetic video."""

    seed: int
    synthesizer: SynthesizerSettings = DEFAULT_SYNTHESIZER

    renders_source: ClassVar[bool] = True

    @property
    def activity(self) -> Activity:
        """Activity of the video."""
        assert self.context.settings.activity is not None
        return self.context.settings.activity

    @property
    def is_rendered(self) -> bool:
        """Whether the dancer is rendered to pixels; otherwise a stick figure is drawn."""
        return self.context.settings.partition == "test"

    def ensure_source(self) -> None:
        """Compose the music, simulate the dance and render the video, unless it exists.

        The duration is that of the activity's longest clip plus the trimmed ends. For a stick
        figure, a pose file is written to the same folder.

        Raises:
            InputError: the soundfont lacks an instrument.
            OutputError: the video cannot be written.
        """
        path = self.source_path
        if path.exists():
            return
        rules = CUTTING_RULES[self.activity]
        duration_s = max(rule.duration_s for rule in rules.lengths) + 2 * rules.trim_s
        style = STYLES_BY_NAME[self.context.settings.genre or ""]
        score = compose_score(self.seed, style, duration_s)
        accents = score.accents_s, score.strengths
        dance = simulate_dance(self.seed, *accents, duration_s=duration_s, energy=score.energy)
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            video, audio = Path(folder, "video.mp4"), Path(folder, "audio.wav")
            samples = synthesize_training_piece(
                score.arrangement,
                duration_s=duration_s,
                seed=self.seed,
                synthesizer=self.synthesizer,
            )
            soundfile.write(audio, samples, SAMPLE_RATE_HZ)
            if self.is_rendered:
                _render_dancer(video, self, dance, score)
            else:
                frames = _draw_stick_figures(dance.poses)
                write_mp4(video, frames, POSE_FPS, STICK_FIGURE_SIZE_PX)
                poses_path = path.with_name(path.stem + POSES_SUFFIX)
                with atomic_write(poses_path, overwrite=True) as temporary:
                    write_poses(temporary, dance.poses)
            tags = {"comment": "synthetic video by loris"}
            with atomic_write(path, overwrite=True) as temporary:
                mux_audio(video, audio, temporary, tags=tags)


def list_synthetic_tasks(
    data_dir: Path,
    n_clips: int,
    *,
    n_test_clips: int | None = None,
    seed: int = 0,
    synthesizers: Sequence[SynthesizerSettings] = (DEFAULT_SYNTHESIZER,),
) -> list[SyntheticTask]:
    """Return the tasks that render and prepare the videos of a synthetic data set.

    Args:
        data_dir: data set folder.
        n_clips: number of videos per activity over all partitions, at least 2 per partition. A
            sports video yields one clip of 50 s and two of 25 s.
        n_test_clips: number of test videos per activity; None holds out 5 %, at least 2.
        seed: random seed of the data set.
        synthesizers: synthesizers with their soundfonts; each video has the music of one.

    Raises:
        UsageError: the test videos leave none for training.
        InputError: the soundfont is missing or damaged.
        MissingDependencyError: fluidsynth is not installed.
    """
    for synthesizer in synthesizers:
        synthesizer.check()
    n_val = _count_validation_videos(n_clips)
    n_test = n_val if n_test_clips is None else n_test_clips
    n_train = n_clips - n_test - n_val
    if n_test_clips is not None and n_train < MIN_CLIPS_PER_PARTITION:
        n_needed = n_clips
        while n_needed - n_test - _count_validation_videos(n_needed) < MIN_CLIPS_PER_PARTITION:
            n_needed += 1
        raise UsageError(
            f"--test-clips {n_test} needs at least {n_needed} videos per activity",
            hint=f"--clips {n_needed}",
        )
    n_train = max(n_train, MIN_CLIPS_PER_PARTITION)
    counts = {"train": n_train, "val": n_val, "test": n_test}
    pairs = [(activity, partition) for activity in ACTIVITIES for partition in PARTITIONS]
    tasks = []
    for k, (activity, partition) in enumerate(pairs, seed * len(pairs)):
        for number in range(counts[partition]):
            video_seed = FIRST_SEED + k * SEED_STEP + number
            style = STYLES[video_seed % N_DANCE_STYLES].name
            settings = PrepSettings(
                activity=activity,
                genre=style if activity == "dance" else activity,
                separator="none",
                pose_estimator="blazepose" if partition == "test" else "file",
                synthetic=True,
                partition=partition,
            )
            path = data_dir / RAW_FOLDER / f"{activity}-{partition}-{seed}-{number:06d}.mp4"
            context = PrepContext(data_dir=data_dir, settings=settings)
            tasks.append(
                SyntheticTask(
                    source_path=path,
                    context=context,
                    seed=video_seed,
                    synthesizer=choose_synthesizer(synthesizers, video_seed),
                )
            )
    return tasks


def _count_validation_videos(n_clips: int) -> int:
    return max(MIN_CLIPS_PER_PARTITION, round(HELD_OUT_FRACTION * n_clips))


def _render_dancer(
    path: Path, task: SyntheticTask, performance: DancePerformance, score: MusicalScore
) -> None:
    """Render a dancer whose impacts have the strengths of the musical accents."""
    strengths = np.interp(performance.impacts_s, score.accents_s, score.strengths)
    rng = np.random.default_rng([task.seed, 5])
    times_s, duration_s = performance.impacts_s, score.duration_s
    motion = build_impact_motion(times_s, strengths, duration_s=duration_s, rng=rng)
    scene, size = SCENE_OF_ACTIVITY[task.activity], RENDERED_SIZE_PX
    render_video(path, motion, timing=POSE_FPS, size=size, seed=task.seed, scene_name=scene)


def _draw_stick_figures(poses: Poses) -> Iterator[NDArray[np.uint8]]:
    """Yield frames of a stick figure on a black background."""
    width, height = STICK_FIGURE_SIZE_PX
    scale = np.array([*(np.array(STICK_FIGURE_SIZE_PX) / poses.size), 1.0])
    background = np.zeros((height, width, 3), np.uint8)
    for keypoints in poses.keypoints:
        yield draw_skeleton(background, keypoints * scale)
