"""The recipe of the embedded ``mini`` model: first its latent code, then its denoiser.

    corpus -> log-mel cache -> LatentCoder -> code cache -> MiniDenoiser -> mini.safetensors

    python -m loris_cli.dataset.synthetic DATA && python -m loris_cli.training.mini DATA RUN

Stopped by SIGTERM, the same command goes on where it was.
"""

import argparse
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray
from torch import Tensor

from loris_cli.conditioning import HARMONY_CHANNELS, ClipFeatures, batch, condition
from loris_cli.dataset.clips import read_danced, read_lesson
from loris_cli.dataset.manifest import Clip, read_manifest
from loris_cli.diffusion import loss
from loris_cli.mel import log_mel
from loris_cli.networks.checkpoint import save_mini
from loris_cli.networks.denoiser import DenoiserConfig, MiniDenoiser
from loris_cli.networks.latent import LatentCoder, LatentConfig
from loris_cli.training.loop import LoopConfig, train

LATENT = LatentConfig(channels=64, width=448, blocks=3)
DENOISER = DenoiserConfig(
    code_channels=64,
    harmony_channels=HARMONY_CHANNELS,
    motion_width=32,
    told_looseness=1,
    window=512,
)
LATENT_BATCH, LATENT_FRAMES = 12, 256
KL_WEIGHT = 3e-4
EDGES = 0.5
"""Weight of the differences between neighbouring frames and bands, against blur."""
DENOISER_BATCH = 6
DROP_CONDITION = 0.1
"""LORIS, Sec. 5.1."""
DROP_HARMONY = 0.1
SEEN, NO_BODY = 0.4, 0.1
"""Of clips with a body: how often the peaks are those it shows, and how often it is hidden."""
P_MEAN, P_STD = -0.4, 1.2
"""Karras et al. (2022), Table 1; LORIS's own are for a waveform of deviation 0.1."""


def mel_cache(data: Path, clips: list[Clip], run: Path, split: str) -> NDArray[np.float16]:
    """Log-mel frames of a split, ``(clips, 128, frames)``, computed once."""
    path = run / f"mel-{split}.npy"
    if not path.exists():
        with ProcessPoolExecutor() as pool:
            files = [data / clip.audio for clip in clips]
            frames = np.stack(list(pool.map(_read_mel, files, chunksize=8)))
        with path.with_suffix(".part").open("wb") as part:
            np.save(part, frames)
        path.with_suffix(".part").rename(path)
    cached: NDArray[np.float16] = np.load(path, mmap_mode="r")
    return cached


def _read_mel(path: Path) -> NDArray[np.float16]:
    samples, _ = soundfile.read(path, dtype="float32")
    frames = log_mel(samples)
    return frames[:, : frames.shape[1] // 4 * 4].astype(np.float16)


def train_latent(mels: NDArray[np.float16], run: Path, *, steps: int, seed: int) -> LatentCoder:
    """Stage one: an L1 reconstruction of standardised log-mel, weakly regularised."""
    torch.manual_seed(seed)
    coder = LatentCoder(LATENT)
    sample = np.asarray(mels[:: max(len(mels) // 64, 1)], dtype=np.float32)
    bands = torch.from_numpy(sample.mean(axis=(0, 2)))[:, None]
    coder.mel_mean.copy_(bands)
    coder.mel_std.fill_(float((sample - bands.numpy()).std()))

    def loss_at(step: int) -> Tensor:
        rng = np.random.default_rng([seed, 1, step])
        rows = rng.integers(len(mels), size=LATENT_BATCH)
        starts = rng.integers(mels.shape[2] - LATENT_FRAMES, size=LATENT_BATCH)
        crops = [
            mels[row, :, start : start + LATENT_FRAMES]
            for row, start in zip(rows, starts, strict=True)
        ]
        frames = torch.from_numpy(np.stack(crops).astype(np.float32))
        mean, log_variance = coder.posterior(frames)
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        noise = torch.randn(mean.shape, generator=generator)
        code = mean + noise * (log_variance / 2).exp()
        off = (coder.reconstruct(code) - frames) / coder.mel_std
        error = off.abs().mean() + EDGES * (
            off.diff(dim=2).abs().mean() + off.diff(dim=1).abs().mean()
        )
        divergence = (mean.square() + log_variance.exp() - 1 - log_variance).mean() / 2
        return error + KL_WEIGHT * divergence

    config = LoopConfig(steps=steps, learning_rate=1e-3, ema_decay=0.99, clip=1.0)
    average = train(
        coder,
        loss_at,
        config=config,
        state_path=run / "latent.pt",
        log_path=run / "latent.jsonl",
    )
    coder.load_state_dict(average)
    return coder.eval().requires_grad_(False)


def encode(coder: LatentCoder, mels: NDArray[np.float16]) -> Tensor:
    """Codes of whole clips, ``(clips, 32, frames / 4)``, not yet of unit variance."""
    rows = [
        coder.posterior(torch.from_numpy(np.asarray(row, dtype=np.float32))[None])[0]
        for row in mels
    ]
    return torch.cat(rows)


@dataclass(frozen=True)
class Lesson:
    """A clip as it was composed, and as its dancer shows it."""

    composed: ClipFeatures
    danced: ClipFeatures | None


def told(lesson: Lesson, rng: np.random.Generator) -> ClipFeatures:
    """What the network is told this time: by the score or by the body, chords or none."""
    features = lesson.composed
    if lesson.danced is not None:
        draw = rng.random()
        if draw < SEEN:
            features = lesson.danced
        elif draw < 1 - NO_BODY:
            features = replace(features, keypoints=lesson.danced.keypoints)
    return replace(features, harmony=None) if rng.random() < DROP_HARMONY else features


def train_denoiser(
    codes: Tensor, lessons: list[Lesson], run: Path, *, steps: int, seed: int
) -> MiniDenoiser:
    """Stage two: the diffusion loss on codes of unit variance."""
    torch.manual_seed(seed)
    denoiser = MiniDenoiser(DENOISER)
    window = DENOISER.window

    def loss_at(step: int) -> Tensor:
        rng = np.random.default_rng([seed, 2, step])
        rows = rng.integers(len(codes), size=DENOISER_BATCH)
        starts = rng.integers(codes.shape[2] - window + 1, size=DENOISER_BATCH)
        pairs = list(zip(rows.tolist(), starts.tolist(), strict=True))
        clean = torch.stack([codes[row, :, at : at + window] for row, at in pairs])
        features = [told(lessons[row], rng) for row in rows.tolist()]
        conditions = [condition(f, at, window) for f, at in zip(features, starts, strict=True)]
        dropped = torch.from_numpy(rng.random(DENOISER_BATCH) < DROP_CONDITION)
        return loss(
            lambda x, c_noise: denoiser(x, c_noise, batch(conditions), dropped),
            clean,
            sigma_data=1.0,
            p_mean=P_MEAN,
            p_std=P_STD,
            generator=torch.Generator().manual_seed(int(rng.integers(2**62))),
        )

    config = LoopConfig(steps=steps, learning_rate=5e-4, ema_decay=0.999)
    average = train(
        denoiser,
        loss_at,
        config=config,
        state_path=run / "denoiser.pt",
        log_path=run / "denoiser.jsonl",
    )
    denoiser.load_state_dict(average)
    return denoiser


def _once(path: Path, make: Callable[[], Tensor]) -> Tensor:
    """A tensor that is made the first time and read again afterwards."""
    if path.exists():
        made: Tensor = torch.load(path, weights_only=True)
        return made
    made = make()
    part = path.with_suffix(".part")
    torch.save(made, part)
    part.rename(path)
    return made


def main() -> None:
    """Read the command line and train both stages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--latent-steps", type=int, default=3000)
    parser.add_argument("--denoiser-steps", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    run: Path = given.run
    run.mkdir(parents=True, exist_ok=True)
    clips = [clip for clip in read_manifest(given.data) if clip.split == "train"]
    mels = mel_cache(given.data, clips, run, "train")
    coder = train_latent(mels, run, steps=given.latent_steps, seed=given.seed)
    codes = _once(run / "codes.pt", lambda: encode(coder, mels))
    coder.code_mean.copy_(codes.mean(dim=(0, 2))[:, None])
    coder.code_std.copy_(codes.std(dim=(0, 2))[:, None])
    codes = (codes - coder.code_mean) / coder.code_std
    lessons = [
        Lesson(read_lesson(given.data, clip), read_danced(given.data, clip)) for clip in clips
    ]
    denoiser = train_denoiser(codes, lessons, run, steps=given.denoiser_steps, seed=given.seed)
    save_mini(run / "mini.safetensors", coder, denoiser)


if __name__ == "__main__":
    main()
