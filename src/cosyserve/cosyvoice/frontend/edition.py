"""The editions of CosyVoice side by side: vocabulary, wording, features of a recording, sizes."""

from dataclasses import dataclass
from pathlib import Path

from cosyserve.cosyvoice.frontend import marks, prompt_encoder
from cosyserve.cosyvoice.frontend.prompt_encoder import Ears
from cosyserve.cosyvoice.frontend.wording import Bare, Led, Wording
from cosyserve.cosyvoice.model.config import Config, Config3, Sizes
from cosyserve.cosyvoice.model.loading import WeightsError, load_sizes


@dataclass(frozen=True)
class Edition:
    name: str
    model: str  # as the manifest has it
    added: tuple[str, ...]  # to the text's vocabulary
    wording: Wording
    ears: Ears
    sizes: type[Config] | type[Config3]
    pronounces: bool  # phonemes and pinyin

    def config(self, folder: Path) -> Sizes:
        """The released sizes, unless the folder has others; raises `WeightsError`."""
        sizes = load_sizes(folder)
        if not isinstance(sizes, self.sizes):
            raise WeightsError(f"{folder} has a model of another edition than {self.name}")
        return sizes


COSYVOICE2 = Edition(
    name="cosyvoice2",
    model="cosyvoice2-0.5b",
    added=marks.COSYVOICE2,
    wording=Bare(),
    ears=prompt_encoder.COSYVOICE2,
    sizes=Config,
    pronounces=False,
)
COSYVOICE3 = Edition(
    name="cosyvoice3",
    model="cosyvoice3-0.5b",
    added=marks.COSYVOICE3,
    wording=Led(),
    ears=prompt_encoder.COSYVOICE3,
    sizes=Config3,
    pronounces=True,
)
EDITIONS = {edition.model: edition for edition in (COSYVOICE3, COSYVOICE2)}
