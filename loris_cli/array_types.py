"""Array types shared by most modules."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Float32Array = NDArray[np.float32]
Samples = Float32Array
"""Audio samples, ``(samples,)`` or ``(channels, samples)``, with full scale at 1."""
