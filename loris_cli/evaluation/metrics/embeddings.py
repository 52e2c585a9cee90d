"""What networks of others hear in a sound, through fadtk, where the user has it.

    sound -> 16 bits at the network's rate -> CLAP | VGGish | EncodecEmb -> features over time

fadtk (Gui et al., 2024) fetches the weights from the network when a model is first loaded. Of
it the loaders alone are used: distances are those of `evaluation.frechet`, like all others in
a table. Written after the source of fadtk 1.1.0.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.errors import WeightsError
from loris_cli.system.librosa_import import librosa
from loris_cli.system.optional_packages import find_package_folder, import_optional

LOADERS: Mapping[str, tuple[str, tuple[str, ...]]] = MappingProxyType(
    {
        "clap": ("CLAPLaionModel", ("music",)),
        "vggish": ("VGGishModel", ()),
        "encodec": ("EncodecEmbModel", ("24k",)),
    }
)
"""Class of fadtk's loader and what it is made with."""


def check_embeddings() -> None:
    """Refuse early what cannot be had; nothing is loaded.

    Raises:
        MissingDependencyError: fadtk is not installed.
    """
    find_package_folder("fadtk", extra="fadtk", purpose="hear with CLAP, VGGish or EnCodec")


class Embedder:
    """One network."""

    def __init__(self, name: str) -> None:
        """Load it.

        Args:
            name: one of `LOADERS`.

        Raises:
            MissingDependencyError: fadtk is not installed.
            WeightsError: its weights cannot be fetched.
        """
        kind, words = LOADERS[name]
        module = import_optional(
            "fadtk.model_loader", extra="fadtk", purpose=f"hear with {name}"
        )
        try:
            self._loader: Any = getattr(module, kind)(*words)
            self._loader.load_model()
        except OSError as error:
            raise WeightsError(
                f"the weights of {name} cannot be had: {error}",
                hint="fadtk fetches them when they are first used: is there a network?",
            ) from error

    def embed(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """What it hears in a sound.

        Args:
            samples: mono, 22,050 Hz, ``(samples,)``.

        Returns:
            ``(features, frames)``
        """
        rate_hz = int(self._loader.sr)
        sound = librosa.resample(
            samples, orig_sr=SAMPLE_RATE_HZ, target_sr=rate_hz, res_type="soxr_hq"
        )
        with tempfile.TemporaryDirectory() as room:
            path = Path(room, "sound.wav")
            soundfile.write(path, sound.clip(-1, 1), rate_hz, subtype="PCM_16")
            told = self._loader.get_embedding(self._loader.load_wav(path))
        found: NDArray[np.float32] = np.asarray(told, dtype=np.float32).T
        return found
