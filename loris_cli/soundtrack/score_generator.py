"""Generator that plays the rule-written score of a clip with a synthesizer; no network.

    features -> chords and notes -> synthesizer -> samples

The score follows the rules that also write the notes for ``mini``. A learned model should
sound better than this system or follow the video more closely.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from loris_cli.array_types import Samples
from loris_cli.composition.midi_file import encode_midi
from loris_cli.composition.mix import MixSettings
from loris_cli.composition.synthesis import SYNTHESIZER_LATENCY_S, synthesize_blocks
from loris_cli.composition.synthesizer_settings import DEFAULT_SYNTHESIZER, SynthesizerSettings
from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.models.generator_interface import ClipFeatures, ProgressCallback, VideoFeatures
from loris_cli.soundtrack.clip_features import add_arrangement, seed_from_rhythm
from loris_cli.soundtrack.windowed_sampling import ModelTraits

N_CHANNELS = 2


@dataclass(frozen=True, kw_only=True)
class ScoreGenerator:
    """The rule-written score as a `MusicGenerator`, in stereo."""

    synthesizer: SynthesizerSettings = DEFAULT_SYNTHESIZER
    traits = ModelTraits(n_channels=N_CHANNELS)

    def compose(self, features: VideoFeatures, *, seed: int) -> ClipFeatures:
        """Return the features with the chords and notes of a take."""
        return add_arrangement(features, seed=seed_from_rhythm(seed, features.peaks_s))

    def generate(
        self, features: VideoFeatures, *, seed: int, progress: ProgressCallback
    ) -> Iterator[Samples]:
        """Play the score of a clip, in consecutive blocks.

        Args:
            features: features of the entire clip.
            seed: seed of the take.
            progress: called after each block, with numbers of samples.

        Yields:
            ``(2, samples)`` blocks at 22,050 Hz, ``round(duration_s * 22050)`` samples in all.

        Raises:
            InputError: the soundfont is damaged or lacks an instrument.
            MissingDependencyError: fluidsynth is not installed.
        """
        arrangement = self.compose(features, seed=seed).arrangement
        assert arrangement is not None
        n_samples, n_done = round(features.duration_s * SAMPLE_RATE_HZ), 0
        blocks = synthesize_blocks(
            arrangement.shift(-SYNTHESIZER_LATENCY_S),
            MixSettings(),
            duration_s=features.duration_s,
            n_channels=N_CHANNELS,
            synthesizer=self.synthesizer,
        )
        for block in blocks:
            n_done += block.shape[1]
            progress(n_done, n_samples)
            yield block


def encode_score(features: ClipFeatures, *, title: str) -> bytes:
    """Encode the score of a take as a MIDI file with the visual peaks as markers.

    Args:
        features: features with chords and notes, from `compose`.
        title: title of the piece.
    """
    assert features.arrangement is not None
    peaks = zip(features.peaks_s.tolist(), features.strengths.tolist(), strict=True)
    return encode_midi(
        features.arrangement,
        harmony=features.harmony,
        markers=[(time_s, f"visual peak {strength:.2f}") for time_s, strength in peaks],
        title=title,
    )
