"""End-to-end synchronization of rendered impacts with onsets in the output file.

    impacts -> rendered video -> decode, pose, rhythm, model, mux -> decode -> onsets

    python experiments/end_to_end_sync.py --clips 24
    python experiments/end_to_end_sync.py --clips 60 --previous metrics.json

The reference is the rendered motion: an impact is the time at which the limb stops. Onsets are
detected in the decoded audio of the muxed file. With ``--previous``, the output of an earlier
run on the same clips, the means of the paired differences are printed too.
"""

import json
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from bootstrap import bootstrap_mean
from command_line import create_parser, load_generator
from numpy.typing import NDArray

from loris_cli.audio.onsets import (
    PEAK_PICKING,
    compute_onset_deviations,
    detect_onsets,
    match_onsets,
)
from loris_cli.models.generator_interface import MusicGenerator
from loris_cli.soundtrack.pipeline import OutputOptions, make_soundtrack, read_mono_audio
from loris_cli.soundtrack.video_analysis import analyze_video
from loris_cli.synthetic.motion import MIN_STRONG_IMPACT, sample_impact_motion
from loris_cli.synthetic.render import render_video
from loris_cli.synthetic.scene import SceneName
from loris_cli.system.atomic_files import atomic_write

Array = NDArray[np.float64]

FIRST_SEED = 5000
MATCH_TOLERANCE_S = 0.07
CLIP_S = 12.0
CHANCE_SHIFT_S = 0.61
"""Shift of the impacts that gives the chance level of the recall."""


@dataclass(frozen=True, kw_only=True)
class _ClipSync:
    """Synchronization metrics of one clip; recalls refer to strong impacts."""

    seed: int
    n_strong: int
    onset_offsets_s: Array
    peak_offsets_s: Array
    recall: float
    chance_recall: float
    peak_recall: float
    precision: float


def evaluate_end_to_end_sync(
    generator: MusicGenerator,
    *,
    n_clips: int,
    folder: Path,
    first_seed: int = FIRST_SEED,
    fps: float = 30.0,
) -> dict[str, Any]:
    """Render videos, generate soundtracks and match their onsets with the impacts.

    Args:
        generator: the model.
        n_clips: number of clips.
        folder: video folder; existing videos are reused.
        first_seed: seed of the first clip; tune settings on other seeds than those reported.
        fps: frame rate of the rendered videos.

    Returns:
        metrics with 95 % confidence intervals over clips, and the recall and the precision of
        each clip.
    """
    clips = [
        _measure_clip(generator, folder, seed, fps)
        for seed in range(first_seed, first_seed + n_clips)
    ]
    strong = [clip for clip in clips if clip.n_strong]
    offsets_s = np.concatenate([clip.onset_offsets_s for clip in clips])
    peak_offsets_s = np.concatenate([clip.peak_offsets_s for clip in clips])

    def bootstrap_median(values: Array) -> dict[str, float]:
        return asdict(bootstrap_mean(values, statistic=np.median, n_resamples=2000))

    return {
        "n_clips": n_clips,
        "first_seed": first_seed,
        "n_strong_impacts": sum(clip.n_strong for clip in clips),
        "n_strong_impacts_matched": len(offsets_s),
        "tolerance_s": MATCH_TOLERANCE_S,
        "detector": PEAK_PICKING,
        "strong_impact_recall": asdict(bootstrap_mean(c.recall for c in strong)),
        "strong_impact_recall_chance": asdict(bootstrap_mean(c.chance_recall for c in strong)),
        "strong_impact_recall_visual_peaks": asdict(
            bootstrap_mean(clip.peak_recall for clip in strong)
        ),
        "precision": asdict(bootstrap_mean(clip.precision for clip in clips)),
        "median_offset_s": bootstrap_median(offsets_s),
        "median_visual_peak_offset_s": bootstrap_median(peak_offsets_s),
        "clips": {
            str(clip.seed): {"recall": clip.recall, "precision": clip.precision}
            for clip in strong
        },
    }


def compare_clips(
    clips: dict[str, dict[str, float]], previous: dict[str, dict[str, float]]
) -> dict[str, object]:
    """Return the means of the paired differences to an earlier run, with 95 % intervals.

    Args:
        clips: recall and precision of each clip, by seed.
        previous: those of the earlier run, for the same seeds.
    """
    return {
        metric: asdict(
            bootstrap_mean(clips[seed][metric] - previous[seed][metric] for seed in clips)
        )
        for metric in ("recall", "precision")
    }


def _measure_clip(generator: MusicGenerator, folder: Path, seed: int, fps: float) -> _ClipSync:
    motion = sample_impact_motion(seed, CLIP_S)
    video, out = folder / f"{seed}.mp4", folder / f"{seed}.loris.mp4"
    if not video.exists():
        scene_name: SceneName = "rink" if seed % 2 else "gym"
        with atomic_write(video, overwrite=False) as temporary:
            render_video(temporary, motion, timing=fps, seed=seed, scene_name=scene_name)
    analysis = analyze_video(video, method="directogram")
    options = OutputOptions(overwrite=True)
    make_soundtrack(analysis, out, generator=generator, seed=seed, options=options)
    samples = read_mono_audio(out)
    assert samples is not None
    onsets_s, peaks_s = detect_onsets(samples), analysis.rhythm.times_s
    strong_s = motion.impact_times_s[motion.impact_strengths >= MIN_STRONG_IMPACT]
    match = match_onsets(motion.impact_times_s, onsets_s, tolerance_s=MATCH_TOLERANCE_S)
    return _ClipSync(
        seed=seed,
        n_strong=len(strong_s),
        onset_offsets_s=compute_onset_deviations(strong_s, onsets_s),
        peak_offsets_s=compute_onset_deviations(strong_s, peaks_s),
        recall=_impact_recall(strong_s, onsets_s),
        chance_recall=_impact_recall((strong_s + CHANCE_SHIFT_S) % CLIP_S, onsets_s),
        peak_recall=_impact_recall(strong_s, peaks_s),
        precision=match.precision,
    )


def _impact_recall(impact_times_s: Array, onsets_s: Array) -> float:
    return match_onsets(np.sort(impact_times_s), onsets_s, tolerance_s=MATCH_TOLERANCE_S).recall


def main() -> None:
    """Parse arguments, evaluate, and print the metrics as JSON."""
    parser = create_parser(__doc__, n_clips=24)
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED)
    parser.add_argument("--video-dir", type=Path, help="Keep the videos in this folder.")
    parser.add_argument("--previous", type=Path, help="Metrics of an earlier run.")
    args = parser.parse_args()
    generator = load_generator(args.model)
    with tempfile.TemporaryDirectory() as temporary:
        folder: Path = args.video_dir or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        metrics = evaluate_end_to_end_sync(
            generator, n_clips=args.clips, folder=folder, first_seed=args.first_seed
        )
    if args.previous:
        previous = json.loads(args.previous.read_text())
        metrics["difference"] = compare_clips(metrics["clips"], previous["clips"])
    print(json.dumps(metrics, indent=1))


if __name__ == "__main__":
    main()
