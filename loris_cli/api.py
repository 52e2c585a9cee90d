"""Python interface: generate a soundtrack for one video.

    from loris_cli.api import SoundtrackSettings, generate_soundtrack

    row = generate_soundtrack("skate.mp4", "out.mp4", SoundtrackSettings(genre="skate", seed=7))
    print(row["output"], row["peaks_s"])

The individual steps are `loris_cli.soundtrack.video_analysis.analyze_video` and
`loris_cli.soundtrack.pipeline.make_soundtrack`.
"""

from pathlib import Path

from loris_cli.soundtrack.job_report import ReportRow
from loris_cli.soundtrack.jobs import SoundtrackSettings as SoundtrackSettings
from loris_cli.soundtrack.jobs import plan_jobs
from loris_cli.soundtrack.run_jobs import run_job
from loris_cli.system.input_paths import output_folder
from loris_cli.system.progress import Reporter

DEFAULT_SETTINGS = SoundtrackSettings()


def generate_soundtrack(
    video: str | Path,
    output: str | Path | None = None,
    settings: SoundtrackSettings = DEFAULT_SETTINGS,
    *,
    reporter: Reporter | None = None,
) -> ReportRow:
    """Generate a soundtrack in time with the motion in a video.

    Args:
        video: input video file.
        output: video or audio file to write; None writes ``STEM.loris.mp4`` next to the video.
        settings: model, seed, sampling and output options.
        reporter: receives progress and warnings. The report row contains the warnings as well.

    Returns:
        report row with the output path, as ``--report`` writes it.

    Raises:
        LorisError: the video, the model or the output path cannot be used.
    """
    output = None if output is None else Path(output)
    with output_folder(output), output_folder(settings.midi), output_folder(settings.plot):
        [job] = plan_jobs([Path(video)], output, settings=settings)
        [row] = run_job(job, reporter=reporter)
    return row
