"""The paper's network: audio-diffusion-pytorch's U-Net on the waveform, told of three things.

    video features -> Bi-LSTM -> tokens
    rhythm peaks -> Hawkes transformer -> tokens
    genre -> one token
    sound -> U-Net, whose blocks attend to the three, one after the other

The U-Net is the package's own. Its conditional ResNet blocks are turned into ours in place, so
parameters keep the names that released checkpoints have, and what is told goes to them through
the ``embedding`` argument that the package passes on unread.

Two readings (specification, 4.1): ``official`` is what the released weights were trained with,
``paper`` what the text describes.
"""

from dataclasses import replace

import torch
from audio_diffusion_pytorch.modules import (
    FixedEmbedding,
    ResnetBlock1d,
    UNet1d,
)
from torch import Tensor, nn
from torch.nn import functional

from loris_cli.config import POSE_FPS, SAMPLE_RATE_HZ
from loris_cli.models.fused_attention import fuse
from loris_cli.models.hawkes import RhythmTransformer
from loris_cli.models.paper_condition import Pair, Told
from loris_cli.models.paper_config import PaperConfig
from loris_cli.models.stgcn import MotionFeatures
from loris_cli.models.unet_options import options

LEAD = 2
"""Rhythm step ``n`` belongs to pose frame ``n + 2`` (R6; docs/contracts.md)."""
MOMENTS = 8
"""Values of an aligned rhythm for a frame of the first level: its norms have groups of 8."""


class ConditionalBlock(ResnetBlock1d):  # type: ignore[misc]
    """The package's ResNet block, attending to video, rhythm and genre one after the other."""

    @staticmethod
    def of(block: ResnetBlock1d, config: PaperConfig) -> None:
        """Turn a conditional block of the package into one of these, in place."""
        block.__class__ = ConditionalBlock
        if config.rhythm == "attention" and not config.shared_rhythm:
            block.rhythm_hawkes_attention = rhythm_transformer(config)

    def forward(
        self, x: Tensor, mapping: Tensor | None = None, embedding: Told | None = None
    ) -> Tensor:
        """``(batch, in, frames)`` to ``(batch, out, frames)``, told of ``embedding``."""
        assert embedding is not None
        h = self.block1(x)
        attend = self.cross_attend.fn
        for keys, values in self._contexts(embedding):
            queries = attend.to_q(attend.norm_in(h.transpose(1, 2)))
            h = attend.attention(queries, keys, values).transpose(1, 2) + h
        h = self.block2(h, scale_shift=self.to_scale_shift(mapping))
        out: Tensor = h + self.to_out(x)
        return out

    def _contexts(self, told: Told) -> list[Pair]:
        """Keys and values of video, rhythm and genre; they do not depend on the noise."""
        if told.kept is not None and id(self) in told.kept:
            return told.kept[id(self)]
        tokens = told.tokens
        if hasattr(self, "rhythm_hawkes_attention"):
            tokens = self.rhythm_hawkes_attention(told.rhythm)
        contexts = [c for c in (told.video, tokens, told.genre) if c is not None]
        attend = self.cross_attend.fn
        pairs = [attend.to_kv(attend.norm_context(c)).chunk(2, dim=-1) for c in contexts]
        if told.kept is not None:
            told.kept[id(self)] = pairs
        return pairs


def rhythm_transformer(config: PaperConfig) -> RhythmTransformer:
    """An encoder of rhythm of these sizes."""
    return RhythmTransformer(
        config.features,
        length=config.pose_length,
        heads=config.heads,
        head_features=config.head_features,
        hawkes=config.hawkes if config.position else None,
        scale=config.rhythm_scale,
    )


class PaperUNet(UNet1d):  # type: ignore[misc]
    """The U-Net with its null condition (Sec. 3.4; App. A.3)."""

    def __init__(self, config: PaperConfig) -> None:
        """Make a network of these sizes, with random weights."""
        aligned = {"context_channels": [0, MOMENTS]} if config.aligned else {}
        super().__init__(
            in_channels=config.in_channels,
            patch_factor=config.patch_factor,
            **options(config),
            **aligned,
            context_embedding_features=config.features,
        )
        self.config = config
        for module in list(self.modules()):
            if isinstance(module, ResnetBlock1d) and module.use_embedding:
                ConditionalBlock.of(module, config)
        fuse(self)
        if config.rhythm == "attention" and config.shared_rhythm:
            self.rhythm_encoder = rhythm_transformer(config)
        if config.sees:
            self.fixed_embedding = FixedEmbedding(config.video_length, config.features)
        if config.rhythm == "attention" or config.aligned:
            self.fixed_rhythm = FixedEmbedding(config.pose_length, 1)
        self.fixed_genre = FixedEmbedding(1, config.features)

    def forward(self, x: Tensor, time: Tensor, *, embedding: Told) -> Tensor:
        """``(batch, channels, samples)`` to the same, told of ``embedding``."""
        told = embedding
        if self.config.rhythm == "attention" and self.config.shared_rhythm:
            told = replace(told, tokens=self._tokens(told))
        beside = None
        if self.config.aligned:
            assert told.rhythm is not None
            beside = [self._aligned(told.rhythm, x.shape[2])]
        if self.config.rhythm != "multiply":
            out: Tensor = super().forward(x, time, channels_list=beside, embedding=told)
            return out
        assert told.envelope is not None
        gate = on_sound(told.envelope, x.shape[2], every=self.config.patch_factor)
        # The package calls the patcher by itself, so what comes out of it is met on its way.
        hook = self.to_in.register_forward_hook(lambda module, given, patched: patched * gate)
        try:
            out = super().forward(x, time, channels_list=beside, embedding=told)
        finally:
            hook.remove()
        return out

    def _aligned(self, rhythm: Tensor, n_samples: int) -> Tensor:
        """The rhythm on the time of the first level, ``(batch, 8, frames)``."""
        stride = self.config.patch_factor * self.config.factors[0]
        curve = on_sound(rhythm, n_samples, every=stride // MOMENTS)
        return curve.reshape(len(rhythm), -1, MOMENTS).transpose(1, 2)

    def _tokens(self, told: Told) -> Tensor:
        """Of the one encoder of rhythm; made once where things are kept."""
        assert told.rhythm is not None
        if told.kept is not None and id(self) in told.kept:
            return told.kept[id(self)][0][0]
        tokens: Tensor = self.rhythm_encoder(told.rhythm)
        if told.kept is not None:
            told.kept[id(self)] = [(tokens, tokens)]
        return tokens

    def null(self, told: Told) -> Told:
        """What stands for "nothing is told" beside a batch.

        An envelope is a gain, so none is a gain of one.
        """
        rhythm = told.rhythm
        if rhythm is not None:
            n_steps = rhythm.shape[1]
            weights = self.fixed_rhythm.embedding.weight[:n_steps, 0]
            if self.config.null_rhythm == "onehot":
                row = functional.one_hot(weights.argmax(), n_steps).to(rhythm)
            else:
                row = weights.sigmoid().to(rhythm)
            rhythm = row.expand(len(rhythm), -1)
        return Told(
            video=None if told.video is None else self.fixed_embedding(told.video),
            rhythm=rhythm,
            envelope=None if told.envelope is None else torch.ones_like(told.envelope),
            genre=None if told.genre is None else self.fixed_genre(told.genre),
        )


def on_sound(steps: Tensor, n_samples: int, *, every: int = 1) -> Tensor:
    """Values at steps of the rhythm as a curve on the time of the sound, between them straight.

    Args:
        steps: ``(batch, steps)``; step ``n`` is at ``(n + 2) / 16`` s.
        n_samples: of the sound.
        every: so many samples have one value.

    Returns:
        ``(batch, 1, n_samples / every)``; zero before the first step, level after the last.
    """
    frames = functional.pad(steps.float(), (LEAD, 0))
    moment = torch.arange(n_samples // every, device=steps.device) * every
    place = (moment * (POSE_FPS / SAMPLE_RATE_HZ)).clamp(max=frames.shape[1] - 1)
    left = place.long().clamp(max=frames.shape[1] - 2)
    curve = torch.lerp(frames[:, left], frames[:, left + 1], place - left)
    return curve[:, None]


class VideoEncoder(nn.Module):
    """Video features along time (Eq. 3)."""

    def __init__(self, inside: int, features: int) -> None:
        """Make a Bi-LSTM of two layers."""
        super().__init__()
        self.lstm = nn.LSTM(
            inside, features // 2, num_layers=2, bidirectional=True, batch_first=True
        )


class GenreEncoder(nn.Module):
    """A genre as one token (Eq. 8)."""

    def __init__(self, n_genres: int, features: int) -> None:
        """Make a table of genres."""
        super().__init__()
        self.genre_embed = nn.Embedding(n_genres, features)


class ConditionalDiffusion(nn.Module):
    """Holds the U-Net under the name that released checkpoints have for it."""

    def __init__(self, config: PaperConfig) -> None:
        """Make the U-Net."""
        super().__init__()
        self.unet = PaperUNet(config)


class PaperModel(nn.Module):
    """The whole of the paper's network; its parameters are named as in released checkpoints."""

    def __init__(self, config: PaperConfig) -> None:
        """Make a network of these sizes, with random weights."""
        super().__init__()
        self.config = config
        width = {"lstm": config.features, "linear": config.visual_features, "none": 0}
        inside = width[config.visual] + config.features * config.motion
        if config.visual == "lstm":
            self.vencoder = VideoEncoder(config.visual_features, config.features)
        if config.motion:
            self.mencoder = MotionFeatures(config.features)
        if inside:
            self.cond_lin = nn.Linear(inside, config.features)
        if config.n_genres:
            self.gencoder = GenreEncoder(config.n_genres, config.features)
        self.cond_diffusion = ConditionalDiffusion(config)

    @property
    def unet(self) -> PaperUNet:
        """The U-Net."""
        return self.cond_diffusion.unet

    def tell(
        self,
        video: Tensor | None,
        rhythm: Tensor,
        genre: Tensor | None = None,
        *,
        envelope: Tensor | None = None,
        motion: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Told:
        """Encode what is known of a batch; what the network was built without is not looked at.

        Args:
            video: features, ``(batch, video_length, visual_features)``; None is the null that
                guidance learned, where no features are to be had.
            rhythm: 1 where a peak is, ``(batch, pose_length - 2)``.
            genre: index, ``(batch,)``, for a network that is told of genres; None, or an index
                below zero, is the null.
            envelope: how much motion begins at each step, 0..1, shaped like ``rhythm``.
            motion: the body, ``(batch, pose_length, 17, 3)``; see `stgcn`.
            generator: of the state that the Bi-LSTM begins with, where that is noise.
        """
        config = self.config
        token = None
        if config.n_genres:
            nothing = rhythm.new_zeros(len(rhythm), 1, 1)
            token = self.unet.fixed_genre(nothing)
            if genre is not None:
                known = self.gencoder.genre_embed(genre.clamp(min=0))[:, None]
                token = torch.where((genre < 0)[:, None, None], token, known)
        peaks = config.rhythm == "attention" or config.aligned
        return Told(
            video=self._seen(video, motion, len(rhythm), generator) if config.sees else None,
            rhythm=rhythm if peaks else None,
            envelope=envelope if config.rhythm == "multiply" else None,
            genre=token,
        )

    def _seen(
        self,
        video: Tensor | None,
        motion: Tensor | None,
        n: int,
        generator: torch.Generator | None,
    ) -> Tensor:
        """Tokens of the picture, ``(n, video_length, features)``."""
        config, parts = self.config, []
        if config.visual != "none":
            if video is None:
                rows: Tensor = self.unet.fixed_embedding.embedding.weight
                return rows.expand(n, -1, -1)
            parts.append(video if config.visual == "linear" else self._along(video, generator))
        if config.motion:
            assert motion is not None
            parts.append(self.mencoder(motion, config.video_length))
        out: Tensor = self.cond_lin(torch.cat(parts, dim=-1))
        return out

    def _along(self, video: Tensor, generator: torch.Generator | None) -> Tensor:
        shape = (4, len(video), self.config.features // 2)

        def begin() -> Tensor:
            if self.config.lstm_state == "zeros":
                return video.new_zeros(shape)
            return torch.randn(shape, generator=generator).to(video)

        state = (begin(), begin())
        seen: Tensor = self.vencoder.lstm(video, state)[0]
        return seen

    def forward(self, x: Tensor, c_noise: Tensor, told: Told, dropped: Tensor) -> Tensor:
        """F of Karras et al. (2022), Eq. 7, for training.

        Args:
            x: scaled noisy sound, ``(batch, 2, samples)``, samples a multiple of ``stride``.
            c_noise: noise level as the network sees it, ``(batch,)``.
            told: from `tell`.
            dropped: where the null condition is used instead, ``(batch,)`` bool.
        """
        heard = told.where(dropped, self.unet.null(told))
        out: Tensor = self.unet(x, c_noise, embedding=heard)
        return out

    def guided(self, x: Tensor, c_noise: Tensor, both: Told, *, guidance: float) -> Tensor:
        """F with classifier-free guidance (App. A.3), both sides in one batch.

        Args:
            x: ``(batch, 2, samples)``.
            c_noise: ``(batch,)``.
            both: what is told and, behind it, the null: ``told.beside(unet.null(told))``.
            guidance: 1 is none, and costs half.
        """
        if guidance == 1:
            plain: Tensor = self.unet(x, c_noise, embedding=both.first(len(x)))
            return plain
        out: Tensor = self.unet(
            torch.cat([x, x]), torch.cat([c_noise, c_noise]), embedding=both
        )
        with_it, without = out.float().chunk(2)  # guidance multiplies what bf16 rounds off
        return without + guidance * (with_it - without)
