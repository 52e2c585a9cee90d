"""Training stage of a baseline of the paper, and of the codec that two of them share.

prepared clips -> examples -> network and loss of the method -> METHOD.safetensors
"""

import hashlib
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from loris_cli.baselines.learned_checkpoint import LearnedModel, export_learned_weights
from loris_cli.baselines.learned_method import LearnedMethod
from loris_cli.soundtrack.visual_features import VISUAL_WIDTHS
from loris_cli.system.progress import Reporter
from loris_cli.training.checkpoints import Weights
from loris_cli.training.datasets import VALIDATION_SEED, TrainingClips
from loris_cli.training.loop import TrainingStage
from loris_cli.training.paper_stage import select_visual_encoder
from loris_cli.training.prepared_clips import (
    ClipPreparation,
    PreparedDataset,
    read_training_features,
)
from loris_cli.training.settings import TrainingSettings
from loris_cli.training.validation_samples import render_validation_samples


class LearnedStage(TrainingStage):
    """Training of a method."""

    def __init__(
        self,
        clips: TrainingClips,
        settings: TrainingSettings,
        *,
        method: LearnedMethod,
        codec: LearnedModel | None,
        folder: Path,
    ) -> None:
        """Build network and data.

        Args:
            clips: clips for training and validation.
            settings: settings of the stage.
            method: method to train.
            codec: trained codec; None if the method uses none.
            folder: folder of the prepared clips.
        """
        self.method, self._codec = method, None if codec is None else codec.network
        encoder = select_visual_encoder(settings, clips.all)
        config = replace(method.configs[settings.network_size], compat=settings.method_compat)
        if hasattr(config, "visual_width"):
            width = VISUAL_WIDTHS["i3d-r50" if encoder == "i3d-r50" else "i3d"]
            config = replace(config, visual_width=width if encoder else 0)
        codec_hash = "" if codec is None else codec.sha256_prefix
        identity = f"{config} {codec_hash} {encoder}".encode()
        self._preparation = ClipPreparation(
            data_dir=clips.data_dir,
            folder=folder / hashlib.sha256(identity).hexdigest()[:12],
            method=method,
            config=config,
            codec=self._codec,
            visual_encoder=encoder,
        )
        torch.manual_seed(settings.seed)
        self.network = method.build_network(config)
        self.loss_module = method.build_loss(self.network, self._codec)
        self._clips, self._sample_clips = clips, clips.val[: settings.validation_samples]
        self._seed = settings.seed

    def prepare(self, reporter: Reporter) -> None:
        """Prepare the clips; only one process calls it."""
        self._preparation.prepare(self._clips.all, reporter)

    def load_examples(self) -> None:
        """Find the prepared clips; all processes call it after the preparation.

        Raises:
            InputError: no clip of a partition can be used.
        """
        paths = self._preparation.find_prepared(self._clips.train)
        self.n_clips = len(paths)
        self.train_set = self._build_dataset(paths, self._seed)
        self.val_set = self._build_dataset(
            self._preparation.find_prepared(self._clips.val), VALIDATION_SEED
        )

    def _build_dataset(self, paths: list[Path], seed: int) -> PreparedDataset:
        return PreparedDataset(
            paths=paths, method=self.method, config=self._preparation.config, seed=seed
        )

    def initialize(self) -> None:
        """Do nothing: all methods start from random weights."""

    def export_weights(self, module: nn.Module) -> Weights:
        """Return the weights of network and codec, and metadata with their configurations."""
        return export_learned_weights(self.method, self._get_network(module), self._codec)

    def render_samples(self, module: nn.Module, folder: Path, step: int) -> dict[str, float]:
        """Generate audio for a few validation clips and return the onset scores."""
        if self.method.build_generator is None:
            return {}
        device = next(module.parameters()).device
        codec = None if self._codec is None else self._codec.to(device)
        generator = self.method.build_generator(self._get_network(module), codec, device)
        data_dir, encoder = self._preparation.data_dir, self._preparation.visual_encoder
        clips = [
            (clip.id, read_training_features(data_dir, clip, encoder))
            for clip in self._sample_clips
        ]
        return render_validation_samples(generator, clips, folder, step)

    @staticmethod
    def _get_network(module: nn.Module) -> nn.Module:
        network = module.network
        assert isinstance(network, nn.Module)
        return network
