"""What the name of a dance of AIST tells: its music, and who danced what to it.

``gBR_sFM_c01_d04_mBR0_ch01``: genre, situation, camera, dancer, music, choreography (Tsuchida
et al., AIST Dance Video Database, ISMIR 2019).
"""

import re

AIST_PERFORMANCE_PATTERN = re.compile(
    r"g[A-Z]{2}_s[A-Z]{2}_c\d{2}_(d\d{2})_(m[A-Z]{2}\d)_(ch\d{2})"
)

AIST_CAMERA_PATTERN = re.compile(r"(?<=_)c\d{2}(?=_d\d{2}_m[A-Z]{2}\d_)")


def parse_aist_performance(source_name: str) -> tuple[str, str, str] | None:
    """Music, dancer and choreography of a recording; None of a name of another kind.

    Cameras are not told apart: they saw one performance.
    """
    found = AIST_PERFORMANCE_PATTERN.search(source_name)
    return (found[2], found[1], found[3]) if found else None


def normalize_aist_camera(source_name: str) -> str:
    """The name of a recording as of one camera: its nine saw one performance."""
    return AIST_CAMERA_PATTERN.sub("c00", source_name)
