"""Production of a piece as numbers, to condition a network on how its music sounds.

soundfont, mix, mastering -> vector

Pieces of training music differ in soundfont, reverb, equalizer and compression. A network that
knows these settings does not have to guess them, and can be asked for a neutral sound.
"""

import numpy as np

from loris_cli.array_types import Float32Array
from loris_cli.composition.mastering import EQUALIZER_LIMIT_DB, MasteringSettings
from loris_cli.composition.mix import MixSettings

PRODUCTION_CHANNELS = 15
MAX_REVERB_LEVEL, MAX_TILT, MAX_THRESHOLD_DB, MAX_DRIVE = 0.5, 0.35, 6.0, 1.5
"""Limits of the settings of training music (`mix.draw_mix` and `mastering.draw_mastering`)."""


def describe_production(
    mix: MixSettings, mastering: MasteringSettings, *, bundled_soundfont: bool
) -> Float32Array:
    """Return the settings of a piece, ``(PRODUCTION_CHANNELS,)``, each in -1..1.

    The first value is always 1: an unknown production is a vector of zeros. The volumes of the
    instruments are not included.

    Args:
        mix: reverb and tone.
        mastering: equalizer, compressor and saturation.
        bundled_soundfont: whether the bundled soundfont played the piece.
    """
    compression = 1 - 1 / mastering.ratio
    values = [
        1.0,
        float(bundled_soundfont),
        mix.reverb_level / MAX_REVERB_LEVEL,
        mix.reverb_room_size,
        mix.spectral_tilt / MAX_TILT,
        *(mastering.equalizer_db / EQUALIZER_LIMIT_DB).tolist(),
        compression,
        mastering.threshold_db / MAX_THRESHOLD_DB if compression else 0.0,
        mastering.drive / MAX_DRIVE,
    ]
    return np.array(values, dtype=np.float32)


NEUTRAL_PRODUCTION = describe_production(
    MixSettings(), MasteringSettings(), bundled_soundfont=True
)
"""Production with the default settings: medium reverb and no mastering."""
