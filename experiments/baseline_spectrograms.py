"""Plot spectrograms of reference audio, its VQ-VAE reconstruction and takes of baselines.

python experiments/baseline_spectrograms.py DATA --split fe25 -o spectrograms.png
"""

import argparse
from pathlib import Path

import torch
from clip_scores import generate_takes
from spectrograms import ClipAudio, plot_spectrograms

from loris_cli.baselines.clip_codes import reconstruct_clip
from loris_cli.baselines.learned_checkpoint import detect_learned_method, load_learned_model
from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.dataset.manifest import read_manifest
from loris_cli.dataset.read_clips import read_clip_audio, read_video_features
from loris_cli.models.vqvae import VqVae
from loris_cli.soundtrack.generators import build_learned_generator

CPU = torch.device("cpu")


def main() -> None:
    """Parse arguments, generate takes and plot them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", type=Path, action="append", default=[])
    parser.add_argument("--split", default="da25")
    parser.add_argument("--clips", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=12.0, help="Plotted duration.")
    parser.add_argument("--out", "-o", type=Path, required=True)
    args = parser.parse_args()
    methods = {path: detect_learned_method(path) for path in args.model}
    models = [
        load_learned_model(name, path, device=CPU) for path, name in methods.items() if name
    ]
    codec = next((model.codec for model in models if isinstance(model.codec, VqVae)), None)
    n_samples = round(args.seconds * SAMPLE_RATE_HZ)
    shown = []
    clips = [c for c in read_manifest(args.data) if c.partition == "test"]
    for clip in [c for c in clips if c.subset == args.split][: args.clips]:
        features = read_video_features(args.data, clip)
        if features is None:
            raise SystemExit(f"{clip.id} has no poses")
        reference = read_clip_audio(args.data, clip)
        columns = {"reference": reference}
        if codec is not None:
            columns["VQ-VAE reconstruction"] = reconstruct_clip(codec, reference)
        for model in models:
            generator = build_learned_generator(model, CPU)
            columns[model.method.name] = generate_takes(generator, features, 1)[0]
        shown.append(
            ClipAudio(
                title=clip.id[:24],
                accents_s=features.peaks_s[features.peaks_s < args.seconds],
                audio_by_column={name: audio[:n_samples] for name, audio in columns.items()},
            )
        )
    plot_spectrograms(args.out, shown)


if __name__ == "__main__":
    main()
