"""Choice of synthesizer and soundfont; without the synthesizers, which take long to import."""

import shutil
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from loris_cli.composition.soundfont import load_soundfont
from loris_cli.errors import MissingDependencyError
from loris_cli.system.file_fingerprints import compute_sha256

SynthesizerName = Literal["builtin", "fluidsynth"]
BUILTIN_SOUNDFONT = Path(str(files("loris_cli.composition").joinpath("fluidr3.sf3")))
"""Subset of FluidR3 GM with the instruments of `loris_cli.composition.styles`."""
DEBIAN_SOUNDFONT = Path("/usr/share/sounds/sf2/FluidR3_GM.sf2")
"""FluidR3 GM in the Debian package ``fluid-soundfont-gm``."""


def find_fluidsynth() -> str:
    """Return the path of the program.

    Raises:
        MissingDependencyError: it is not installed.
    """
    program = shutil.which("fluidsynth")
    if program is None:
        raise MissingDependencyError(
            "fluidsynth is not installed",
            hint="apt-get install fluidsynth, or use --synthesizer builtin",
        )
    return program


@dataclass(frozen=True, kw_only=True)
class SynthesizerSettings:
    """Synthesizer and soundfont that play scores."""

    name: SynthesizerName = "builtin"
    soundfont: Path | None = None
    """An ``.sf2`` or ``.sf3`` file. Default: the bundled one; FluidR3 GM for fluidsynth."""

    @property
    def soundfont_path(self) -> Path:
        """Soundfont to use."""
        if self.soundfont is not None:
            return self.soundfont
        return BUILTIN_SOUNDFONT if self.name == "builtin" else DEBIAN_SOUNDFONT

    def check(self) -> None:
        """Check that the program is installed and the soundfont can be read.

        Raises:
            MissingDependencyError: fluidsynth or its soundfont is not installed.
            InputError: the soundfont is missing or damaged.
        """
        if self.name == "fluidsynth":
            find_fluidsynth()
            if self.soundfont is None and not DEBIAN_SOUNDFONT.exists():
                raise MissingDependencyError(
                    "the soundfont of fluidsynth is not installed",
                    hint="apt-get install fluid-soundfont-gm, or pass --soundfont FILE",
                )
        load_soundfont(self.soundfont_path)

    def describe(self) -> dict[str, Any]:
        """Return the settings that determine the sound, with a hash of the soundfont."""
        return {
            "synthesizer": self.name,
            "soundfont": compute_sha256(self.soundfont_path)[:12],
        }


DEFAULT_SYNTHESIZER = SynthesizerSettings()
