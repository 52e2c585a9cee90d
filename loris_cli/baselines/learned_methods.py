"""Trained baselines by name. A further method needs one entry here."""

from collections.abc import Mapping
from pkgutil import resolve_name

from loris_cli.baselines.learned_method import LearnedMethod, MethodName

METHOD_OBJECTS: Mapping[str, str] = {
    "foley": "loris_cli.baselines.foley.method:FOLEY",
    "cmt": "loris_cli.baselines.cmt.method:CMT",
    "d2mgan": "loris_cli.baselines.d2mgan.method:D2MGAN",
    "cdcd": "loris_cli.baselines.cdcd.method:CDCD",
    "vqvae": "loris_cli.baselines.vqvae_method:VQVAE",
}
"""Module and object of each method, which is imported when it is used."""
METHOD_DESCRIPTIONS: Mapping[MethodName, str] = {
    "foley": "Foley Music: poses to MIDI-like events, played by the synthesizer",
    "cmt": "CMT: motion rules control a transformer over notes, played by the synthesizer",
    "d2mgan": "D2M-GAN: poses to VQ-VAE codes, adversarial",
    "cdcd": "CDCD: poses to VQ-VAE codes, discrete diffusion with a contrastive loss",
    "vqvae": "VQ-VAE, the codec of d2mgan and cdcd",
}


def get_learned_method(name: str) -> LearnedMethod:
    """Return a trained baseline by its name, a key of `METHOD_OBJECTS`."""
    method: LearnedMethod = resolve_name(METHOD_OBJECTS[name])
    return method
