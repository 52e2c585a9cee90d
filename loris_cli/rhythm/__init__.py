"""Visual rhythm: the moments at which a body changes its motion.

    keypoints -> motion -> directogram -> onset envelope -> peaks -> impacts

No learned weights and no torch: the rhythm of a video is computed once and stored.
"""

from loris_cli.rhythm.body import body_directogram, motion_energy, rhythm_from_poses
from loris_cli.rhythm.file import Rhythm, read_rhythm, write_rhythm
from loris_cli.rhythm.flow import rhythm_from_flow

__all__ = [
    "Rhythm",
    "body_directogram",
    "motion_energy",
    "read_rhythm",
    "rhythm_from_flow",
    "rhythm_from_poses",
    "write_rhythm",
]
