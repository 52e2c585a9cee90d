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
from loris_cli.models.fused_attention import fuse_attention_and_norms
from loris_cli.models.hawkes import PaperRhythmEncoder
from loris_cli.models.paper_condition import KeyValue, PaperCondition
from loris_cli.models.paper_config import PaperConfig
from loris_cli.models.stgcn import PaperMotionEncoder
from loris_cli.models.unet_options import make_unet_options

RHYTHM_OFFSET_FRAMES = 2
"""Rhythm step ``n`` belongs to pose frame ``n + 2`` (R6; docs/contracts.md)."""
RHYTHM_SUBFRAMES = 8
"""Values of an aligned rhythm for a frame of the first level: its norms have groups of 8."""


class ConditionalResnetBlock(ResnetBlock1d):  # type: ignore[misc]
    """The package's ResNet block, attending to video, rhythm and genre one after the other."""

    @staticmethod
    def convert_in_place(block: ResnetBlock1d, config: PaperConfig) -> None:
        """Turn a conditional block of the package into one of these, in place."""
        block.__class__ = ConditionalResnetBlock
        if config.rhythm_conditioning == "attention" and not config.shared_rhythm_encoder:
            block.rhythm_hawkes_attention = make_rhythm_encoder(config)

    def forward(
        self, x: Tensor, mapping: Tensor | None = None, embedding: PaperCondition | None = None
    ) -> Tensor:
        """``(batch, in, frames)`` to ``(batch, out, frames)``, told of ``embedding``."""
        assert embedding is not None
        h = self.block1(x)
        attend = self.cross_attend.fn
        for keys, values in self._project_contexts(embedding):
            queries = attend.to_q(attend.norm_in(h.transpose(1, 2)))
            h = attend.attention(queries, keys, values).transpose(1, 2) + h
        h = self.block2(h, scale_shift=self.to_scale_shift(mapping))
        out: Tensor = h + self.to_out(x)
        return out

    def _project_contexts(self, condition: PaperCondition) -> list[KeyValue]:
        """Keys and values of video, rhythm and genre; they do not depend on the noise."""
        if condition.kv_cache is not None and id(self) in condition.kv_cache:
            return condition.kv_cache[id(self)]
        tokens = condition.rhythm_tokens
        if hasattr(self, "rhythm_hawkes_attention"):
            tokens = self.rhythm_hawkes_attention(condition.rhythm)
        contexts = [
            c for c in (condition.visual_tokens, tokens, condition.genre_token) if c is not None
        ]
        attend = self.cross_attend.fn
        pairs = [attend.to_kv(attend.norm_context(c)).chunk(2, dim=-1) for c in contexts]
        if condition.kv_cache is not None:
            condition.kv_cache[id(self)] = pairs
        return pairs


def make_rhythm_encoder(config: PaperConfig) -> PaperRhythmEncoder:
    """An encoder of rhythm of these sizes."""
    return PaperRhythmEncoder(
        config.context_features,
        max_steps=config.n_pose_frames,
        heads=config.heads,
        head_features=config.head_features,
        hawkes=config.hawkes_phase if config.positional_encoding else None,
        embedding_scale=config.rhythm_embedding_scale,
    )


class PaperUNet(UNet1d):  # type: ignore[misc]
    """The U-Net with its null condition (Sec. 3.4; App. A.3)."""

    def __init__(self, config: PaperConfig) -> None:
        """Make a network of these sizes, with random weights."""
        aligned = {"context_channels": [0, RHYTHM_SUBFRAMES]} if config.aligned_rhythm else {}
        super().__init__(
            in_channels=config.in_channels,
            patch_factor=config.patch_factor,
            **make_unet_options(config),
            **aligned,
            context_embedding_features=config.context_features,
        )
        self.config = config
        for module in list(self.modules()):
            if isinstance(module, ResnetBlock1d) and module.use_embedding:
                ConditionalResnetBlock.convert_in_place(module, config)
        fuse_attention_and_norms(self)
        if config.rhythm_conditioning == "attention" and config.shared_rhythm_encoder:
            self.rhythm_encoder = make_rhythm_encoder(config)
        if config.has_visual_tokens:
            self.fixed_embedding = FixedEmbedding(
                config.n_visual_frames, config.context_features
            )
        if config.rhythm_conditioning == "attention" or config.aligned_rhythm:
            self.fixed_rhythm = FixedEmbedding(config.n_pose_frames, 1)
        self.fixed_genre = FixedEmbedding(1, config.context_features)

    def forward(self, x: Tensor, time: Tensor, *, embedding: PaperCondition) -> Tensor:
        """``(batch, channels, samples)`` to the same, told of ``embedding``."""
        told = embedding
        if self.config.rhythm_conditioning == "attention" and self.config.shared_rhythm_encoder:
            told = replace(told, rhythm_tokens=self._encode_rhythm(told))
        beside = None
        if self.config.aligned_rhythm:
            assert told.rhythm is not None
            beside = [self._align_rhythm(told.rhythm, x.shape[2])]
        if self.config.rhythm_conditioning != "multiply":
            out: Tensor = super().forward(x, time, channels_list=beside, embedding=told)
            return out
        assert told.onset_envelope is not None
        gate = upsample_to_audio(told.onset_envelope, x.shape[2], hop=self.config.patch_factor)
        # The package calls the patcher by itself, so what comes out of it is met on its way.
        hook = self.to_in.register_forward_hook(lambda module, given, patched: patched * gate)
        try:
            out = super().forward(x, time, channels_list=beside, embedding=told)
        finally:
            hook.remove()
        return out

    def _align_rhythm(self, rhythm: Tensor, n_samples: int) -> Tensor:
        """The rhythm on the time of the first level, ``(batch, 8, frames)``."""
        stride = self.config.patch_factor * self.config.factors[0]
        curve = upsample_to_audio(rhythm, n_samples, hop=stride // RHYTHM_SUBFRAMES)
        return curve.reshape(len(rhythm), -1, RHYTHM_SUBFRAMES).transpose(1, 2)

    def _encode_rhythm(self, condition: PaperCondition) -> Tensor:
        """Of the one encoder of rhythm; made once where things are kept."""
        assert condition.rhythm is not None
        if condition.kv_cache is not None and id(self) in condition.kv_cache:
            return condition.kv_cache[id(self)][0][0]
        tokens: Tensor = self.rhythm_encoder(condition.rhythm)
        if condition.kv_cache is not None:
            condition.kv_cache[id(self)] = [(tokens, tokens)]
        return tokens

    def null_condition(self, condition: PaperCondition) -> PaperCondition:
        """What stands for "nothing is told" beside a batch.

        An envelope is a gain, so none is a gain of one.
        """
        rhythm = condition.rhythm
        if rhythm is not None:
            n_steps = rhythm.shape[1]
            weights = self.fixed_rhythm.embedding.weight[:n_steps, 0]
            if self.config.null_rhythm == "onehot":
                row = functional.one_hot(weights.argmax(), n_steps).to(rhythm)
            else:
                row = weights.sigmoid().to(rhythm)
            rhythm = row.expand(len(rhythm), -1)
        return PaperCondition(
            visual_tokens=None
            if condition.visual_tokens is None
            else self.fixed_embedding(condition.visual_tokens),
            rhythm=rhythm,
            onset_envelope=None
            if condition.onset_envelope is None
            else torch.ones_like(condition.onset_envelope),
            genre_token=None
            if condition.genre_token is None
            else self.fixed_genre(condition.genre_token),
        )


def upsample_to_audio(values: Tensor, n_samples: int, *, hop: int = 1) -> Tensor:
    """Values at steps of the rhythm as a curve on the time of the sound, between them straight.

    Args:
        values: ``(batch, steps)``; step ``n`` is at ``(n + 2) / 16`` s.
        n_samples: of the sound.
        hop: so many samples have one value.

    Returns:
        ``(batch, 1, n_samples / every)``; zero before the first step, level after the last.
    """
    frames = functional.pad(values.float(), (RHYTHM_OFFSET_FRAMES, 0))
    moment = torch.arange(n_samples // hop, device=values.device) * hop
    place = (moment * (POSE_FPS / SAMPLE_RATE_HZ)).clamp(max=frames.shape[1] - 1)
    left = place.long().clamp(max=frames.shape[1] - 2)
    curve = torch.lerp(frames[:, left], frames[:, left + 1], place - left)
    return curve[:, None]


class VideoEncoder(nn.Module):
    """Video features along time (Eq. 3)."""

    def __init__(self, in_features: int, features: int) -> None:
        """Make a Bi-LSTM of two layers."""
        super().__init__()
        self.lstm = nn.LSTM(
            in_features, features // 2, num_layers=2, bidirectional=True, batch_first=True
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
        width = {"lstm": config.context_features, "linear": config.visual_features, "none": 0}
        inside = (
            width[config.visual_projection] + config.context_features * config.motion_encoder
        )
        if config.visual_projection == "lstm":
            self.vencoder = VideoEncoder(config.visual_features, config.context_features)
        if config.motion_encoder:
            self.mencoder = PaperMotionEncoder(config.context_features)
        if inside:
            self.cond_lin = nn.Linear(inside, config.context_features)
        if config.n_genres:
            self.gencoder = GenreEncoder(config.n_genres, config.context_features)
        self.cond_diffusion = ConditionalDiffusion(config)

    @property
    def unet(self) -> PaperUNet:
        """The U-Net."""
        return self.cond_diffusion.unet

    def encode_conditions(
        self,
        visual: Tensor | None,
        rhythm: Tensor,
        genre: Tensor | None = None,
        *,
        onset_envelope: Tensor | None = None,
        pose: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> PaperCondition:
        """Encode what is known of a batch; what the network was built without is not looked at.

        Args:
            visual: features, ``(batch, video_length, visual_features)``; None is the null that
                guidance learned, where no features are to be had.
            rhythm: 1 where a peak is, ``(batch, pose_length - 2)``.
            genre: index, ``(batch,)``, for a network that is told of genres; None, or an index
                below zero, is the null.
            onset_envelope: how much motion begins at each step, 0..1, shaped like ``rhythm_conditioning``.
            pose: the body, ``(batch, pose_length, 17, 3)``; see `stgcn`.
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
        peaks = config.rhythm_conditioning == "attention" or config.aligned_rhythm
        return PaperCondition(
            visual_tokens=self._encode_visual(visual, pose, len(rhythm), generator)
            if config.has_visual_tokens
            else None,
            rhythm=rhythm if peaks else None,
            onset_envelope=onset_envelope if config.rhythm_conditioning == "multiply" else None,
            genre_token=token,
        )

    def _encode_visual(
        self,
        visual: Tensor | None,
        pose: Tensor | None,
        batch_size: int,
        generator: torch.Generator | None,
    ) -> Tensor:
        """Tokens of the picture, ``(n, video_length, features)``."""
        config, parts = self.config, []
        if config.visual_projection != "none":
            if visual is None:
                rows: Tensor = self.unet.fixed_embedding.embedding.weight
                return rows.expand(batch_size, -1, -1)
            parts.append(
                visual
                if config.visual_projection == "linear"
                else self._apply_lstm(visual, generator)
            )
        if config.motion_encoder:
            assert pose is not None
            parts.append(self.mencoder(pose, config.n_visual_frames))
        out: Tensor = self.cond_lin(torch.cat(parts, dim=-1))
        return out

    def _apply_lstm(self, visual: Tensor, generator: torch.Generator | None) -> Tensor:
        shape = (4, len(visual), self.config.context_features // 2)

        def begin() -> Tensor:
            if self.config.lstm_initial_state == "zeros":
                return visual.new_zeros(shape)
            return torch.randn(shape, generator=generator).to(visual)

        state = (begin(), begin())
        seen: Tensor = self.vencoder.lstm(visual, state)[0]
        return seen

    def forward(
        self, x: Tensor, c_noise: Tensor, condition: PaperCondition, drop_mask: Tensor
    ) -> Tensor:
        """F of Karras et al. (2022), Eq. 7, for training.

        Args:
            x: scaled noisy sound, ``(batch, 2, samples)``, samples a multiple of ``stride``.
            c_noise: noise level as the network sees it, ``(batch,)``.
            condition: from `encode_conditions`.
            drop_mask: where the null condition is used instead, ``(batch,)`` bool.
        """
        heard = condition.replace_where(drop_mask, self.unet.null_condition(condition))
        out: Tensor = self.unet(x, c_noise, embedding=heard)
        return out

    def forward_guided(
        self, x: Tensor, c_noise: Tensor, condition_pair: PaperCondition, *, guidance: float
    ) -> Tensor:
        """F with classifier-free guidance (App. A.3), both sides in one batch.

        Args:
            x: ``(batch, 2, samples)``.
            c_noise: ``(batch,)``.
            condition_pair: what is told and, behind it, the null: ``told.beside(unet.null(told))``.
            guidance: 1 is none, and costs half.
        """
        if guidance == 1:
            plain: Tensor = self.unet(x, c_noise, embedding=condition_pair.take_first(len(x)))
            return plain
        out: Tensor = self.unet(
            torch.cat([x, x]), torch.cat([c_noise, c_noise]), embedding=condition_pair
        )
        with_it, without = out.float().chunk(2)  # guidance multiplies what bf16 rounds off
        return without + guidance * (with_it - without)
