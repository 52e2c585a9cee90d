"""The paper's network: audio-diffusion-pytorch's U-Net on the waveform, with three conditions.

    video features -> Bi-LSTM -> tokens
    rhythm peaks -> Hawkes transformer -> tokens
    genre -> one token
    audio -> U-Net, whose blocks attend to the three conditions in turn

The U-Net is a subclass of the package's. Its conditional ResNet blocks are replaced on
construction, with their layers under the same names, so parameters have the names of the
released checkpoints. The package passes the argument ``embedding`` to the blocks unchanged;
here it is the `PaperCondition`.
"""

from dataclasses import replace
from typing import Any, cast

import torch
from audio_diffusion_pytorch.modules import FixedEmbedding, ResnetBlock1d, UNet1d
from torch import Tensor, nn
from torch.nn import functional

from loris_cli.config import POSE_FPS, SAMPLE_RATE_HZ
from loris_cli.models.fused_attention import fuse_attention_and_norms
from loris_cli.models.hawkes import PaperRhythmEncoder
from loris_cli.models.paper_condition import KeyValues, PaperCondition
from loris_cli.models.paper_config import RHYTHM_SUBFRAMES, PaperConfig
from loris_cli.models.stgcn import PaperMotionEncoder

RHYTHM_OFFSET_FRAMES = 2
"""Rhythm step ``n`` belongs to pose frame ``n + 2`` (docs/differences.md, R6)."""


class ConditionalResnetBlock(nn.Module):
    """ResNet block with cross-attention to video, rhythm and genre, in this order."""

    block1: nn.Module
    block2: nn.Module
    to_scale_shift: nn.Module
    to_out: nn.Module
    cross_attend: Any

    def __init__(self, block: ResnetBlock1d, config: PaperConfig) -> None:
        """Build the block from the layers of a conditional block of the package."""
        super().__init__()
        for name, layer in block.named_children():
            self.add_module(name, layer)
        self.rhythm_hawkes_attention = None
        if config.rhythm_conditioning == "attention" and not config.shared_rhythm_encoder:
            self.rhythm_hawkes_attention = PaperRhythmEncoder(config)

    def forward(self, x: Tensor, mapping: Tensor, embedding: PaperCondition) -> Tensor:
        """Map ``(batch, in, frames)`` to ``(batch, out, frames)``, given the conditions."""
        h = self.block1(x)
        attend = self.cross_attend.fn
        for keys, values in self.encode_contexts(embedding):
            queries = attend.to_q(attend.norm_in(h.transpose(1, 2)))
            h = attend.attention(queries, keys, values).transpose(1, 2) + h
        h = self.block2(h, scale_shift=self.to_scale_shift(mapping))
        out: Tensor = h + self.to_out(x)
        return out

    def encode_contexts(self, condition: PaperCondition) -> KeyValues:
        """Return keys and values of all contexts, from the cache if there is one."""
        return condition.cached(self, lambda: self._project_contexts(condition))

    def _project_contexts(self, condition: PaperCondition) -> KeyValues:
        """Return keys and values of all contexts, which do not depend on the noise level."""
        rhythm_tokens = condition.rhythm_tokens
        if self.rhythm_hawkes_attention is not None:
            rhythm_tokens = self.rhythm_hawkes_attention(condition.rhythm)
        attend = self.cross_attend.fn
        contexts = (condition.visual_tokens, rhythm_tokens, condition.genre_token)
        return [
            attend.to_kv(attend.norm_context(context)).chunk(2, dim=-1)
            for context in contexts
            if context is not None
        ]


class PaperUNet(UNet1d):  # type: ignore[misc]
    """U-Net of the paper, with its null condition (Sec. 3.3; App. A.1)."""

    def __init__(self, config: PaperConfig) -> None:
        """Build the network with random weights."""
        aligned = {"context_channels": [0, RHYTHM_SUBFRAMES]} if config.aligned_rhythm else {}
        super().__init__(
            in_channels=config.in_channels,
            **config.unet_options(),
            **aligned,
            context_embedding_features=config.context_features,
        )
        self.config, features = config, config.context_features
        for name, module in list(self.named_modules()):
            if isinstance(module, ResnetBlock1d) and module.use_embedding:
                self.set_submodule(name, ConditionalResnetBlock(module, config))
        fuse_attention_and_norms(self)
        self.rhythm_encoder: PaperRhythmEncoder | None = None
        if config.rhythm_conditioning == "attention" and config.shared_rhythm_encoder:
            self.rhythm_encoder = PaperRhythmEncoder(config)
        if config.has_visual_tokens:
            self.fixed_embedding = FixedEmbedding(config.n_visual_frames, features)
        if config.rhythm_conditioning == "attention" or config.aligned_rhythm:
            self.fixed_rhythm = FixedEmbedding(config.n_pose_frames, 1)
        self.fixed_genre = FixedEmbedding(1, features)

    def forward(self, x: Tensor, time: Tensor, *, condition: PaperCondition) -> Tensor:
        """Evaluate the network: `UNet1d.forward` with the paper's conditions.

        Args:
            x: scaled noisy audio, ``(batch, channels, samples)``.
            time: scaled noise level, ``(batch,)``.
            condition: conditioning tensors of the same batch.

        Returns:
            ``(batch, channels, samples)``
        """
        n_samples, channels = x.shape[2], None
        if self.rhythm_encoder is not None:
            condition = self._encode_rhythm(condition, self.rhythm_encoder)
        rhythm, envelope = condition.rhythm, condition.onset_envelope
        if self.config.aligned_rhythm:
            assert rhythm is not None
            channels = [self._align_rhythm(rhythm, n_samples)]
        mapping = self.get_mapping(time)
        x = self.to_in(x, mapping)
        if self.config.rhythm_conditioning == "multiply":
            assert envelope is not None
            x = x * upsample_to_audio(envelope, n_samples, hop=self.config.patch_factor)
        skips = [x]
        for i, downsample in enumerate(self.downsamples, start=1):
            aligned = self.get_channels(channels, layer=i)
            x, skip = downsample(x, mapping=mapping, channels=aligned, embedding=condition)
            skips.append(skip)
        x = self.bottleneck(x, mapping=mapping, embedding=condition)
        for upsample in self.upsamples:
            x = upsample(x, skips.pop(), mapping=mapping, embedding=condition)
        x += skips.pop()
        x = self.to_out(x, mapping)
        return x

    def _align_rhythm(self, rhythm: Tensor, n_samples: int) -> Tensor:
        """Align the rhythm with the frames of the first level: ``(batch, 8, frames)``."""
        stride = self.config.patch_factor * self.config.factors[0]
        curve = upsample_to_audio(rhythm, n_samples, hop=stride // RHYTHM_SUBFRAMES)
        return curve.reshape(len(rhythm), -1, RHYTHM_SUBFRAMES).transpose(1, 2)

    def _encode_rhythm(self, condition: PaperCondition, encoder: nn.Module) -> PaperCondition:
        """Add the tokens of the shared rhythm encoder, using the cache of keys and values."""

        def encode() -> KeyValues:
            tokens = encoder(condition.rhythm)
            return [(tokens, tokens)]

        return replace(condition, rhythm_tokens=condition.cached(self, encode)[0][0])

    def fill_kv_cache(self, condition: PaperCondition) -> None:
        """Compute the keys and values of all blocks before sampling, into the cache."""
        if self.rhythm_encoder is not None:
            condition = self._encode_rhythm(condition, self.rhythm_encoder)
        for block in self.modules():
            if isinstance(block, ConditionalResnetBlock):
                block.encode_contexts(condition)

    def null_condition(self, condition: PaperCondition) -> PaperCondition:
        """Return the null condition of a batch, for classifier-free guidance.

        The onset envelope is used as a gain, so its null value is one.
        """
        visual, rhythm = condition.visual_tokens, condition.rhythm
        envelope, genre = condition.onset_envelope, condition.genre_token
        if rhythm is not None:
            n_steps = rhythm.shape[1]
            weights = self.fixed_rhythm.embedding.weight[:n_steps, 0]
            row = weights.sigmoid()
            if self.config.null_rhythm == "onehot":
                row = functional.one_hot(weights.argmax(), n_steps)
            rhythm = row.to(rhythm).expand(len(rhythm), -1)
        return PaperCondition(
            visual_tokens=None if visual is None else self.fixed_embedding(visual),
            rhythm=rhythm,
            onset_envelope=None if envelope is None else torch.ones_like(envelope),
            genre_token=None if genre is None else self.fixed_genre(genre),
        )


def upsample_to_audio(values: Tensor, n_samples: int, *, hop: int = 1) -> Tensor:
    """Interpolate values at rhythm steps linearly to the audio rate, or a fraction of it.

    Args:
        values: ``(batch, steps)``; step ``n`` is at ``(n + 2) / 16`` s.
        n_samples: length of the audio.
        hop: samples between two output values.

    Returns:
        ``(batch, 1, n_samples / hop)``; rises from 0 before the first step and holds the last
        value after the last step.
    """
    frames = functional.pad(values.float(), (RHYTHM_OFFSET_FRAMES, 0))
    samples = torch.arange(n_samples // hop, device=values.device) * hop
    position = (samples * (POSE_FPS / SAMPLE_RATE_HZ)).clamp(max=frames.shape[1] - 1)
    left = position.long().clamp(max=frames.shape[1] - 2)
    return torch.lerp(frames[:, left], frames[:, left + 1], position - left)[:, None]


class PaperModel(nn.Module):
    """The paper's network and encoders, with the parameter names of released checkpoints."""

    def __init__(self, config: PaperConfig) -> None:
        """Build the network with random weights."""
        super().__init__()
        self.config, features = config, config.context_features
        width = {"lstm": features, "linear": config.visual_features, "none": 0}
        in_features = width[config.visual_projection] + features * config.motion_encoder
        if config.visual_projection == "lstm":  # Eq. 3
            lstm = nn.LSTM(
                config.visual_features, features // 2, 2, bidirectional=True, batch_first=True
            )
            self.vencoder = nn.ModuleDict({"lstm": lstm})
        if config.motion_encoder:
            self.mencoder = PaperMotionEncoder(features)
        if in_features:
            self.cond_lin = nn.Linear(in_features, features)
        if config.n_genres:  # Eq. 8
            embedding = nn.Embedding(config.n_genres, features)
            self.gencoder = nn.ModuleDict({"genre_embed": embedding})
        self.cond_diffusion = nn.ModuleDict({"unet": PaperUNet(config)})

    @property
    def unet(self) -> PaperUNet:
        """The U-Net."""
        return cast(PaperUNet, self.cond_diffusion["unet"])

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
        """Encode the conditions of a batch; those the network was built without are ignored.

        Args:
            visual: visual features, ``(batch, n_visual_frames, visual_features)``; None selects
                the learned null features, for videos without features.
            rhythm: 1 at a peak, else 0, ``(batch, n_pose_frames - 2)``.
            genre: genre index, ``(batch,)``, for a network with genres; None or a negative
                index selects the null genre.
            onset_envelope: visual onset strength of each step, 0..1, shaped like ``rhythm``.
            pose: normalized poses, ``(batch, n_pose_frames, 17, 3)``; see `stgcn`.
            generator: random generator of the Bi-LSTM's initial state, if that is noise.
        """
        config = self.config
        token = None
        if config.n_genres:
            token = self.unet.fixed_genre(rhythm.new_zeros(len(rhythm), 1, 1))
            if genre is not None:
                embedded = self.gencoder["genre_embed"](genre.clamp(min=0))[:, None]
                token = torch.where((genre < 0)[:, None, None], token, embedded)
        uses_peaks = config.rhythm_conditioning == "attention" or config.aligned_rhythm
        return PaperCondition(
            visual_tokens=self._encode_visual(visual, pose, len(rhythm), generator)
            if config.has_visual_tokens
            else None,
            rhythm=rhythm if uses_peaks else None,
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
        """Return the tokens of video and motion, ``(batch, n_visual_frames, features)``."""
        config = self.config
        features: list[Tensor] = []
        if config.visual_projection != "none":
            if visual is None:
                null: Tensor = self.unet.fixed_embedding.embedding.weight
                return null.expand(batch_size, -1, -1)
            if config.visual_projection == "lstm":
                visual = self._apply_lstm(visual, generator)
            features.append(visual)
        if config.motion_encoder:
            features.append(self.mencoder(pose, config.n_visual_frames))
        out: Tensor = self.cond_lin(torch.cat(features, dim=-1))
        return out

    def _apply_lstm(self, visual: Tensor, generator: torch.Generator | None) -> Tensor:
        shape = (4, len(visual), self.config.context_features // 2)

        def make_state() -> Tensor:
            if self.config.lstm_initial_state == "zeros":
                return visual.new_zeros(shape)
            return torch.randn(shape, generator=generator).to(visual)

        hidden: Tensor = self.vencoder["lstm"](visual, (make_state(), make_state()))[0]
        return hidden

    def forward(
        self, x: Tensor, c_noise: Tensor, condition: PaperCondition, drop_mask: Tensor
    ) -> Tensor:
        """Evaluate F of Karras et al. (2022), Eq. 7, for training.

        Args:
            x: scaled noisy audio, ``(batch, 2, samples)``; ``samples`` must be a multiple of
                ``config.stride``.
            c_noise: scaled noise level, ``(batch,)``.
            condition: from `encode_conditions`.
            drop_mask: where to use the null condition instead, ``(batch,)`` bool.
        """
        null = self.unet.null_condition(condition)
        out: Tensor = self.unet(x, c_noise, condition=condition.replace_where(drop_mask, null))
        return out

    def forward_guided(
        self, x: Tensor, c_noise: Tensor, condition_pair: PaperCondition, *, guidance: float
    ) -> Tensor:
        """Evaluate F with classifier-free guidance (Sec. 5.1), both passes in one batch.

        Args:
            x: scaled noisy audio, ``(batch, 2, samples)``.
            c_noise: scaled noise level, ``(batch,)``.
            condition_pair: conditions followed by their null conditions:
                ``condition.concat(unet.null_condition(condition))``; without guidance the
                conditions alone are enough.
            guidance: guidance scale; 1 disables guidance, at half the cost.
        """
        if guidance == 1:
            x = self.unet(x, c_noise, condition=condition_pair.take(slice(len(x))))
            return x
        x, c_noise = torch.cat([x, x]), torch.cat([c_noise, c_noise])
        x = self.unet(x, c_noise, condition=condition_pair)
        conditional, null = x.float().chunk(2)  # guidance amplifies bf16 rounding errors
        return null + guidance * (conditional - null)
