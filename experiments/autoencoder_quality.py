"""Quality of audio after encoding and decoding by the autoencoder of ``mini``.

python experiments/autoencoder_quality.py DATA --model mini --model RUN --clips 20

``--model`` is a model or the folder of a training run. Columns: opinion scores by Zimtohrli and
ViSQOL against the reference; fraction of the reference's onsets with one within 50 ms; pitch
stability and key clarity by those of the reference; seconds of decoding per 25 s of audio on
one thread. The first row has true magnitudes, with estimated phases.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from music_metrics import visqol_mos, zimtohrli_mos
from rich.console import Console
from rich.table import Table

from loris_cli.array_types import Samples
from loris_cli.audio.magnitudes import compute_log_magnitude, invert_log_magnitude
from loris_cli.audio.mel import FINE_MEL_CONFIG, compute_log_mel
from loris_cli.audio.onsets import detect_onsets, match_onsets
from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.dataset.manifest import read_manifest
from loris_cli.dataset.read_clips import read_clip_audio
from loris_cli.evaluation.metrics.music import measure_texture
from loris_cli.models.mel_autoencoder import MelAutoencoder
from loris_cli.models.mini_checkpoint import (
    decode_latents,
    encode_log_mel,
    load_mini_checkpoint,
    reconstruct_through_latent,
)
from loris_cli.training.checkpoints import RunFolder
from loris_cli.training.mini_weights import load_autoencoder

Reconstruct = Callable[[Samples], Samples]
COLUMNS = ("Zimtohrli", "ViSQOL", "onsets", "pitch", "key", "decoding, s")


def load_model(name: str) -> MelAutoencoder:
    """Load the autoencoder of a model or of a run."""
    if Path(name).is_dir():
        return load_autoencoder(RunFolder(Path(name)))
    return load_mini_checkpoint(name, device=torch.device("cpu")).autoencoder


def invert_true_magnitudes(samples: Samples) -> Samples:
    """Reconstruct audio from its own magnitudes."""
    frames = torch.from_numpy(compute_log_magnitude(samples, FINE_MEL_CONFIG.n_fft))
    return invert_log_magnitude(frames[None])[0].numpy()


def score_clip(reference: Samples, reconstruct: Reconstruct) -> list[float]:
    """Return the scores of `COLUMNS`, without the last one."""
    rebuilt = reconstruct(reference)
    reference = reference[: len(rebuilt)]
    onsets_s, rebuilt_onsets_s = detect_onsets(reference), detect_onsets(rebuilt)
    texture, rebuilt_texture = (
        measure_texture(reference, onsets_s),
        measure_texture(rebuilt, rebuilt_onsets_s),
    )
    return [
        zimtohrli_mos(rebuilt, reference),
        visqol_mos(rebuilt, reference),
        match_onsets(onsets_s, rebuilt_onsets_s).recall,
        rebuilt_texture.pitch_stability / texture.pitch_stability,
        rebuilt_texture.key_clarity / texture.key_clarity,
    ]


def measure_decoding_s(autoencoder: MelAutoencoder, samples: Samples) -> float:
    """Return the seconds of decoding per 25 s of audio, the median of three."""
    log_mel = compute_log_mel(samples, autoencoder.config.bands)
    n_frames = log_mel.shape[1] // autoencoder.config.stride * autoencoder.config.stride
    latents = encode_log_mel(autoencoder, torch.from_numpy(log_mel[:, :n_frames]))
    times_s = []
    for _ in range(3):
        start_s = time.perf_counter()
        decoded = decode_latents(autoencoder, latents)
        times_s.append(time.perf_counter() - start_s)
    return float(np.median(times_s)) * 25 * SAMPLE_RATE_HZ / len(decoded)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", action="append", default=[])
    parser.add_argument("--clips", type=int, default=20)
    args = parser.parse_args()
    torch.set_num_threads(1)
    clips = [clip for clip in read_manifest(args.data) if clip.partition == "test"]
    clips = clips[:: max(len(clips) // args.clips, 1)][: args.clips]
    audio = [read_clip_audio(args.data, clip) for clip in clips]
    autoencoders = {name: load_model(name) for name in args.model or ["mini"]}
    systems: dict[str, Reconstruct] = {
        "true magnitudes": invert_true_magnitudes,
        **{
            name: partial(reconstruct_through_latent, network)
            for name, network in autoencoders.items()
        },
    }
    table = Table("", *COLUMNS, title=f"{len(audio)} clips of {args.data.name}")
    for name, reconstruct in systems.items():
        scores = np.mean([score_clip(samples, reconstruct) for samples in audio], axis=0)
        cells = [f"{score:.3f}" for score in scores]
        if name in autoencoders:
            cells.append(f"{measure_decoding_s(autoencoders[name], audio[0]):.2f}")
        table.add_row(name, *cells)
    Console().print(table)


if __name__ == "__main__":
    main()
