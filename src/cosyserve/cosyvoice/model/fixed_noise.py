"""The noise of CosyVoice3's source, which is no weight and the same for every utterance."""

import torch
from torch import Tensor

from cosyserve.cosyvoice.model.config import MELS, NOISE_FRAMES, SAMPLES_PER_FRAME, SPEECH_TOKENS, HiftConfig

_FIRST, _OTHERS = 4, 3  # taps of the pitch's convolutions
_BLOCK = 1500  # frames that are drawn at once, at least: few utterances are longer


def noise_generator(config: HiftConfig, speaker: int) -> torch.Generator:
    """What upstream's fixed noise comes from: the default generator, as its configuration leaves it behind. The flow's
    constructor seeds it, then it draws the flow's own noise and the first weights of all that is made before the
    source. Only how many are drawn counts. `speaker` is the size of the speaker's embedding."""
    generator = torch.Generator("cpu").manual_seed(0)
    hidden = config.f0_channels
    normal = [(1, MELS, NOISE_FRAMES), (SPEECH_TOKENS, MELS)]
    first, other, last = (hidden, MELS, _FIRST), (hidden, hidden, _OTHERS), (1, hidden)
    uniform = [(MELS, speaker), (MELS,), first, (hidden,), *4 * [other, (hidden,)], last, (1,)]
    for shape in normal:
        torch.randn(shape, generator=generator, device="cpu")
    for shape in uniform:
        torch.rand(shape, generator=generator, device="cpu")
    # Where each harmonic begins, which nothing hears.
    torch.rand(1, config.harmonics + 1, generator=generator, device="cpu")
    return generator


class FixedNoise:
    """In [0, 1), from the beginning of any utterance on; drawn as far as one has come. Not to be used from two
    threads."""

    def __init__(self, config: HiftConfig, speaker: int) -> None:
        self._config, self._speaker, self._waves = config, speaker, config.harmonics + 1
        self._generator: torch.Generator | None = None
        self._drawn = torch.empty(0, self._waves, device="cpu")

    def frames(self, begin: int, count: int, device: torch.device) -> Tensor:
        """(480 · count, H) on a device, where it stays."""
        samples = slice(SAMPLES_PER_FRAME * begin, SAMPLES_PER_FRAME * (begin + count))
        missing = begin + count - len(self._drawn) // SAMPLES_PER_FRAME
        if missing > 0 or self._drawn.device != device:
            self._drawn = torch.cat((self._drawn.to(device), self._more(max(missing, _BLOCK)).to(device)))
        return self._drawn[samples]

    def _more(self, frames: int) -> Tensor:
        if self._generator is None:
            self._generator = noise_generator(self._config, self._speaker)
        return torch.rand(SAMPLES_PER_FRAME * frames, self._waves, generator=self._generator, device="cpu")
