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

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from audio_diffusion_pytorch.modules import (
    AttentionBase,
    FixedEmbedding,
    ResnetBlock1d,
    UNet1d,
)
from torch import Tensor, nn
from torch.nn import functional

from loris_cli.networks.hawkes import Hawkes, RhythmTransformer
from loris_cli.networks.unet import options


@dataclass(frozen=True, kw_only=True)
class PaperConfig:
    """Sizes (paper, 4.1; specification, 3.1) and readings."""

    in_channels: int = 2
    channels: int = 256
    patch_factor: int = 32
    multipliers: tuple[int, ...] = (1, 2, 4, 4, 4, 4, 4)
    factors: tuple[int, ...] = (4, 4, 4, 2, 2, 2)
    num_blocks: tuple[int, ...] = (2, 2, 2, 2, 2, 2)
    attentions: tuple[bool, ...] = (False, False, False, True, True, True)
    heads: int = 16
    head_features: int = 64
    features: int = 1024
    """Width of what is told."""
    video_length: int = 50
    """Rows of video features, 2 a second."""
    pose_length: int = 400
    """Pose frames, 16 a second; the rhythm has two fewer."""
    n_genres: int = 0
    """10 for dance; 0 where no genre is told."""
    hawkes: Hawkes = "interval"
    """What shifts the phase of a position (Eq. 9): the time since the last peak, a constant
    (the released code), a sum of decaying traces of peaks, or nothing (w/o Hawkes)."""
    position: bool = True
    """False is the ablation w/o PE."""
    rhythm_scale: float = 1.0
    """Of the rhythm's embedding; the released code has the root of its width, 32 (M3)."""
    null_rhythm: Literal["learned", "onehot"] = "learned"
    """What guidance takes for no rhythm: peaks by halves that it learns, or the released code's
    one peak where a parameter that never learned is largest (M9)."""
    lstm_state: Literal["zeros", "noise"] = "zeros"
    """What the Bi-LSTM begins with; noise in the released code, at every call (M7)."""

    @property
    def stride(self) -> int:
        """Samples that a length must be a multiple of."""
        product = self.patch_factor
        for factor in self.factors:
            product *= factor
        return product


def official(config: PaperConfig) -> PaperConfig:
    """The same sizes in the reading of the released weights."""
    return replace(
        config,
        hawkes="constant",
        rhythm_scale=math.sqrt(config.features),
        null_rhythm="onehot",
        lstm_state="noise",
    )


Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True, kw_only=True, eq=False)
class Told:
    """What the blocks are told of a batch.

    It is the same over a whole sampling, so the keys and values that blocks make of it are
    kept where ``kept`` is a dictionary; while they learn it must be None.
    """

    video: Tensor
    """``(batch, video_length, features)``"""
    rhythm: Tensor
    """1 where a peak is, 0 elsewhere, between where that was learned, ``(batch, steps)``."""
    genre: Tensor | None = None
    """``(batch, 1, features)``"""
    kept: dict[int, list[Pair]] | None = None

    def beside(self, other: "Told", *, keep: bool) -> "Told":
        """Two batches as one."""
        genres = None
        if self.genre is not None and other.genre is not None:
            genres = torch.cat([self.genre, other.genre])
        return Told(
            video=torch.cat([self.video, other.video]),
            rhythm=torch.cat([self.rhythm, other.rhythm]),
            genre=genres,
            kept={} if keep else None,
        )

    def where(self, dropped: Tensor, other: "Told") -> "Told":
        """The other's where ``dropped (batch,)`` says so."""
        genre = self.genre
        if genre is not None and other.genre is not None:
            genre = torch.where(dropped[:, None, None], other.genre, genre)
        return Told(
            video=torch.where(dropped[:, None, None], other.video, self.video),
            rhythm=torch.where(dropped[:, None], other.rhythm, self.rhythm),
            genre=genre,
        )


class FusedAttention(AttentionBase):  # type: ignore[misc]
    """The package's attention, through torch's own kernel: the same numbers, less memory."""

    def forward(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        mask: Tensor | None = None,
        attention_bias: Tensor | None = None,
    ) -> Tensor:
        """``(batch, queries, heads * width)`` and so on to ``(batch, queries, out)``."""
        assert mask is None
        assert attention_bias is None
        batch, n_queries, _ = q.shape
        queries, keys, values = (
            x.reshape(batch, x.shape[1], self.num_heads, -1).transpose(1, 2) for x in (q, k, v)
        )
        seen = functional.scaled_dot_product_attention(queries, keys, values, scale=self.scale)
        out: Tensor = self.to_out(seen.transpose(1, 2).reshape(batch, n_queries, -1))
        return out


class ConditionalBlock(ResnetBlock1d):  # type: ignore[misc]
    """The package's ResNet block, attending to video, rhythm and genre one after the other."""

    rhythm_hawkes_attention: RhythmTransformer

    @staticmethod
    def of(block: ResnetBlock1d, config: PaperConfig) -> None:
        """Turn a conditional block of the package into one of these, in place."""
        block.__class__ = ConditionalBlock
        block.rhythm_hawkes_attention = RhythmTransformer(
            config.features,
            length=config.pose_length,
            heads=config.heads,
            head_features=config.head_features,
            hawkes=config.hawkes if config.position else None,
            scale=config.rhythm_scale,
        )

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
        contexts = [told.video, self.rhythm_hawkes_attention(told.rhythm)]
        if told.genre is not None:
            contexts.append(told.genre)
        attend = self.cross_attend.fn
        pairs = [attend.to_kv(attend.norm_context(c)).chunk(2, dim=-1) for c in contexts]
        if told.kept is not None:
            told.kept[id(self)] = pairs
        return pairs


class PaperUNet(UNet1d):  # type: ignore[misc]
    """The U-Net with its null condition (Sec. 3.4; App. A.3)."""

    def __init__(self, config: PaperConfig) -> None:
        """Make a network of these sizes, with random weights."""
        super().__init__(
            in_channels=config.in_channels,
            patch_factor=config.patch_factor,
            **options(config),
            context_embedding_features=config.features,
        )
        self.config = config
        for module in list(self.modules()):
            if isinstance(module, ResnetBlock1d) and module.use_embedding:
                ConditionalBlock.of(module, config)
        for module in self.modules():
            if isinstance(module, AttentionBase):
                module.__class__ = FusedAttention
        self.fixed_embedding = FixedEmbedding(config.video_length, config.features)
        self.fixed_rhythm = FixedEmbedding(config.pose_length, 1)
        self.fixed_genre = FixedEmbedding(1, config.features)

    def null(self, told: Told) -> Told:
        """What stands for "nothing is told" beside a batch."""
        n_steps = told.rhythm.shape[1]
        weights = self.fixed_rhythm.embedding.weight[:n_steps, 0]
        if self.config.null_rhythm == "onehot":
            rhythm = functional.one_hot(weights.argmax(), n_steps).to(told.rhythm)
        else:
            rhythm = weights.sigmoid().to(told.video)
        return Told(
            video=self.fixed_embedding(told.video),
            rhythm=rhythm.expand(len(told.rhythm), -1),
            genre=None if told.genre is None else self.fixed_genre(told.genre),
        )


class VideoEncoder(nn.Module):
    """Video features along time (Eq. 3)."""

    def __init__(self, features: int) -> None:
        """Make a Bi-LSTM of two layers."""
        super().__init__()
        self.lstm = nn.LSTM(
            features, features // 2, num_layers=2, bidirectional=True, batch_first=True
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
        self.vencoder = VideoEncoder(config.features)
        self.cond_lin = nn.Linear(config.features, config.features)
        if config.n_genres:
            self.gencoder = GenreEncoder(config.n_genres, config.features)
        self.cond_diffusion = ConditionalDiffusion(config)

    @property
    def unet(self) -> PaperUNet:
        """The U-Net."""
        return self.cond_diffusion.unet

    def tell(
        self,
        video: Tensor,
        rhythm: Tensor,
        genre: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> Told:
        """Encode what is known of a batch.

        Args:
            video: features, ``(batch, video_length, features)``.
            rhythm: 1 where a peak is, ``(batch, pose_length - 2)``.
            genre: index, ``(batch,)``, for a network that is told of genres.
            generator: of the state that the Bi-LSTM begins with, where that is noise.
        """
        shape = (4, len(video), self.config.features // 2)

        def begin() -> Tensor:
            if self.config.lstm_state == "zeros":
                return video.new_zeros(shape)
            return torch.randn(shape, generator=generator).to(video)

        state = (begin(), begin())
        seen, _ = self.vencoder.lstm(video, state)
        token = None
        if self.config.n_genres:
            assert genre is not None
            token = self.gencoder.genre_embed(genre)[:, None]
        return Told(video=self.cond_lin(seen), rhythm=rhythm, genre=token)

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
            guidance: 1 is none.
        """
        out: Tensor = self.unet(
            torch.cat([x, x]), torch.cat([c_noise, c_noise]), embedding=both
        )
        with_it, without = out.chunk(2)
        return without + guidance * (with_it - without)
