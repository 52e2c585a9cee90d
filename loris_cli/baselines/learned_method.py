"""Interface of the paper's four baselines: data of a clip, network, loss, generator.

    TrainingClip -> prepare_clip -> arrays, once per clip -> draw_example -> network -> loss
    VideoFeatures -> generator of a trained network -> samples

Each method is one `LearnedMethod`. Trainer, weights files, `soundtrack` and `eval` use this
interface only, so a further method needs one entry in `loris_cli.baselines.learned_methods`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from loris_cli.array_types import Samples
from loris_cli.composition.arrangement import Arrangement
from loris_cli.composition.chords import Harmony
from loris_cli.config import BaselineName
from loris_cli.models.generator_interface import MusicGenerator, VideoFeatures

MethodName = Literal[BaselineName, "vqvae"]
"""Baseline, or the codec that two of them share."""
NetworkSize = Literal["compact", "full"]
"""``full`` has the sizes of the publication, ``compact`` can be trained on a CPU."""
Compat = Literal["paper", "official"]
"""``official`` keeps the defects of the released code, ``paper`` repairs them."""
PreparedClip = dict[str, NDArray[Any]]
"""Arrays of a clip that are computed once, before training."""
Example = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class TrainingClip:
    """Video and music of a clip."""

    clip_id: str
    features: VideoFeatures
    """Features of the video. Without poses, ``keypoints`` is None and there are no peaks."""
    read_samples: Callable[[], Samples]
    """Function that reads the music: mono, 22,050 Hz."""
    arrangement: Arrangement | None = None
    """Notes of the music; None if there is only audio."""
    harmony: Harmony | None = None
    """Chords and beats of the music; None if there is only audio."""


@dataclass(frozen=True, kw_only=True)
class LearnedMethod:
    """A trained baseline, or the codec that two of them share."""

    name: MethodName
    citation: str
    """Name and publication, such as ``Foley Music (Gan et al., 2020)``."""
    configs: Mapping[NetworkSize, Any]
    """Network configuration of both sizes: frozen dataclasses with a field ``compat``."""
    build_network: Callable[[Any], nn.Module]
    """Return a network with random weights for a configuration, its attribute ``config``."""
    build_loss: Callable[[nn.Module, nn.Module | None], nn.Module]
    """Return the loss module of a network and of the codec, if the method has one. The network
    is the attribute ``network``; the forward pass maps a batch of examples to a scalar."""
    prepare_clip: Callable[[TrainingClip, Any, nn.Module | None], PreparedClip]
    """Return the arrays of a clip for a configuration and the codec, if the method has one.

    Raises `InputError` if the clip has nothing to train on, with the reason.
    """
    draw_example: Callable[[PreparedClip, Any, np.random.Generator], Example]
    """Return an example for a configuration: a random crop, augmented; all its random numbers
    are of the generator."""
    build_generator: (
        Callable[[nn.Module, nn.Module | None, torch.device], MusicGenerator] | None
    )
    """Return the generator of a trained network and codec; None if it generates no music."""
    uses_codec: bool = False
    """Whether the method generates codes of the VQ-VAE (`loris_cli.models.vqvae`)."""
    training_defaults: Mapping[str, Any] = field(default_factory=dict)
    """Defaults of training settings that differ from those of ``mini``."""
