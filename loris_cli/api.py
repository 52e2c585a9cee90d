"""The program's main job for other programs.

    from loris_cli.api import soundtrack

    made = soundtrack("skate.mp4", "out.mp4", genre="skate", seed=7)
    print(made["output"], made["peaks_s"])

The steps by themselves are `loris_cli.soundtrack.video_analysis.observe` and
`loris_cli.soundtrack.pipeline.make_soundtrack`.
"""

from pathlib import Path

from loris_cli.models.diffusion import SamplerName
from loris_cli.soundtrack.job_report import ReportRow
from loris_cli.soundtrack.jobs import SoundtrackSettings, plan_jobs
from loris_cli.soundtrack.run_jobs import run_job
from loris_cli.soundtrack.video_analysis import RhythmMethod
from loris_cli.soundtrack.visual_features import parse_visual_source
from loris_cli.system.device import Precision
from loris_cli.system.input_paths import output_folder
from loris_cli.system.progress import Reporter


def generate_soundtrack(
    video: str | Path,
    out: str | Path | None = None,
    *,
    model: str = "mini",
    genre: str | None = None,
    seed: int = 0,
    steps: int | None = None,
    guidance: float | None = None,
    guidance_interval: tuple[float, float] = (0.0, 1.0),
    sampler: SamplerName | None = None,
    visual: str | Path | None = None,
    offline: bool = False,
    rhythm_method: RhythmMethod | None = None,
    device: str = "auto",
    precision: Precision = "auto",
    compile_networks: bool = False,
    mix_db: float | None = None,
    overwrite: bool = False,
    reporter: Reporter | None = None,
) -> ReportRow:
    """Give a video a soundtrack in time with the body in it.

    Args:
        video: a video file.
        out: a film or a sound file; None is ``STEM.loris.mp4`` beside the video.
        model: ``mini``, a ``.safetensors`` file, or a released checkpoint.
        genre: style, one of `config.GENRES`; None is free.
        seed: the same seed gives the same sound.
        steps: of sampling; None is what suits the model.
        guidance: how strictly the rhythm is followed; None likewise.
        guidance_interval: part of the steps that is guided, as shares of them.
        sampler: None likewise.
        visual: features of the picture, for the paper's model: a ``.npy`` file of them, or who
            makes them (``i3d-r50``, ``i3d-r50=FILE``, ``i3d=FILE``).
        offline: whether weights may not be fetched.
        rhythm_method: the body's, the picture's flow, or None: the body's if there is one.
        device: where networks run.
        precision: what they compute in; ``auto`` is bf16 on CUDA where it can, else fp32.
        compile_networks: by torch.compile as they are first called.
        mix_db: keep the video's own sound underneath at this gain.
        overwrite: replace ``out`` if it exists.
        reporter: told of progress and of warnings; without one the row has the latter.

    Returns:
        what was made, the same row as ``--report`` writes.

    Raises:
        LorisError: the video, the model or the place of the result cannot be used.
    """
    settings = SoundtrackSettings(
        model=model,
        genre=genre,
        seed=seed,
        steps=steps,
        guidance=guidance,
        guidance_interval=guidance_interval,
        sampler=sampler,
        visual=None if visual is None else parse_visual_source(str(visual)),
        offline=offline,
        rhythm_method=rhythm_method,
        device=device,
        precision=precision,
        compile=compile_networks,
        mix_db=mix_db,
        overwrite=overwrite,
    )
    place = None if out is None else Path(out)
    with output_folder(place):
        [job] = plan_jobs([Path(video)], place, settings=settings)
        [row] = run_job(job, reporter=reporter)
    return row
