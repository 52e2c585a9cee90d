"""Types of the arrays that most modules exchange."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Float32Array = NDArray[np.float32]
Samples = Float32Array
"""Audio, ``(samples,)`` or ``(channels, samples)``, full scale at 1."""
