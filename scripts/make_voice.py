"""Makes the voice that comes with CosyServe, from nothing but eSpeak NG's rules: no person ever spoke it.

The recording in src/cosyserve/speech/recordings/ is what this writes; run it to make them again.
"""

import numpy as np
import soxr

from cosyserve.speech import recording
from cosyserve.speech.audio import SAMPLE_RATE
from cosyserve.speech.espeak import espeak
from cosyserve.speech.silence import trimmed
from cosyserve.speech.voices import BUNDLED

NAME = "cosy"
WORDS = "你好，很高兴认识你。今天天气不错，我们一起出去走走吧。"
_VOICE = "cmn+f2"
_PEAK = 0.7


def main() -> None:
    samples = espeak().speak(WORDS, _VOICE).astype(np.float32) / 32768
    pcm = trimmed(soxr.resample(samples, espeak().sample_rate, SAMPLE_RATE))
    BUNDLED.mkdir(exist_ok=True)
    file = BUNDLED / f"[{NAME}]{WORDS}.flac"
    file.write_bytes(recording.written(pcm * (_PEAK / np.abs(pcm).max())))
    print(f"{file.name}: {pcm.size / SAMPLE_RATE:.1f} s")


if __name__ == "__main__":
    main()
