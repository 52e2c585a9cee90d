"""Codebook of a VQ-VAE, updated by exponential moving averages.

    vectors -> nearest codes -> code vectors
    training: vectors and counts of each code -> moving averages -> codebook

After van den Oord et al., "Neural Discrete Representation Learning" (NeurIPS 2017, App. A.1),
with the random restarts of Jukebox (Dhariwal et al., 2020, Sec. 3). The codebook has no
gradients: its buffers change in the forward pass in training mode only.
"""

import math
from typing import Literal

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional

EMA_DECAY = 0.99
"""Decay of the moving averages (Jukebox, App. B.1)."""
RESTART_USAGE = 1.0
"""Codes with a smaller average count per step are restarted (released code of Jukebox)."""
RELATIVE_RESTART_USAGE = 0.1
"""The same as a fraction of the mean count, for small batches."""
TILE_NOISE = 0.01
"""Norm of the noise that separates copies of a vector, if a batch has too few vectors."""


class EmaCodebook(nn.Module):
    """Codebook with moving averages of the vectors and counts of each code."""

    codebook: Tensor
    code_sums: Tensor
    code_counts: Tensor
    is_initialized: Tensor

    def __init__(
        self, n_codes: int, code_width: int, *, compat: Literal["paper", "official"]
    ) -> None:
        """Build an empty codebook; the first batch in training mode initializes it."""
        super().__init__()
        self.compat = compat
        self.register_buffer("codebook", torch.zeros(n_codes, code_width))
        self.register_buffer("code_sums", torch.zeros(n_codes, code_width))
        self.register_buffer("code_counts", torch.ones(n_codes))
        self.register_buffer("is_initialized", torch.zeros((), dtype=torch.bool))

    def find_nearest(self, vectors: Tensor) -> Tensor:
        """Return the codes with the smallest Euclidean distance.

        Args:
            vectors: ``(batch, code_width, frames)``.

        Returns:
            ``(batch, frames)`` int64, 0..n_codes - 1; of equal distances the smallest code.
        """
        with torch.autocast(vectors.device.type, enabled=False), torch.no_grad():
            rows = vectors.float().transpose(1, 2)
            # |x - k|^2 without |x|^2, which is equal for all codes.
            distances = self.codebook.square().sum(dim=1) - 2 * rows @ self.codebook.T
            return distances.argmin(dim=2)

    def embed(self, codes: Tensor) -> Tensor:
        """Return the vectors ``(batch, code_width, frames)`` of codes ``(batch, frames)``."""
        return functional.embedding(codes, self.codebook).transpose(1, 2)

    def forward(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Quantize vectors; in training mode, then update the codebook.

        Args:
            vectors: ``(batch, code_width, frames)``.

        Returns:
            the code vectors, whose gradient is passed on to ``vectors``, and the codes,
            ``(batch, frames)`` int64.
        """
        if self.training and not self.is_initialized:
            self._initialize(vectors.detach())
        codes = self.find_nearest(vectors)
        quantized = vectors + (self.embed(codes) - vectors).detach()
        if self.training:
            self._update(vectors.detach(), codes)
        return quantized, codes

    def _initialize(self, vectors: Tensor) -> None:
        """Set the codebook to random vectors of the batch."""
        picked = self._pick_vectors(_to_rows(vectors))
        if torch.isfinite(picked).all():
            self.codebook.copy_(picked)
            self.code_sums.copy_(picked)
            self.is_initialized.fill_(True)

    def _update(self, vectors: Tensor, codes: Tensor) -> None:
        """Update the moving averages, and restart the codes that are rarely used."""
        rows = _to_rows(vectors)
        sums = torch.zeros_like(self.code_sums).index_add_(0, codes.flatten(), rows)
        counts = torch.bincount(codes.flatten(), minlength=len(self.codebook)).to(sums.dtype)
        picked = self._pick_vectors(rows)
        if distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(sums)
            distributed.all_reduce(counts)
        if not (torch.isfinite(sums).all() and torch.isfinite(picked).all()):
            return  # as the trainer, which skips the step
        self.code_sums.lerp_(sums, 1 - EMA_DECAY)
        self.code_counts.lerp_(counts, 1 - EMA_DECAY)
        mean_count = counts.mean().clamp(max=RESTART_USAGE)
        # With batches below n_codes vectors, most codes would be restarted at each step
        # (docs/differences.md, V2).
        is_official = self.compat == "official"
        threshold = RESTART_USAGE if is_official else RELATIVE_RESTART_USAGE * mean_count
        is_restarted = self.code_counts < threshold
        if not is_official:
            self.code_counts[is_restarted] = mean_count
            self.code_sums[is_restarted] = picked[is_restarted] * mean_count
        means = self.code_sums / self.code_counts[:, None]
        self.codebook.copy_(torch.where(is_restarted[:, None], picked, means))

    def _pick_vectors(self, rows: Tensor) -> Tensor:
        """Return as many random rows as there are codes, equal in all processes."""
        n_codes, width = self.codebook.shape
        if len(rows) < n_codes:
            rows = rows.repeat(math.ceil(n_codes / len(rows)), 1)
            rows = rows + torch.randn_like(rows) * (TILE_NOISE / math.sqrt(width))
        picked = rows[torch.randperm(len(rows), device=rows.device)[:n_codes]].contiguous()
        if distributed.is_available() and distributed.is_initialized():
            distributed.broadcast(picked, src=0)
        return picked


def _to_rows(vectors: Tensor) -> Tensor:
    """Map ``(batch, code_width, frames)`` to ``(batch * frames, code_width)``, in fp32."""
    return vectors.float().transpose(1, 2).flatten(0, 1)
