"""eSpeak NG in this process, through ctypes, from the PyPI wheel `espeakng-loader`.

The library is GPL-3.0-or-later and is never part of CosyServe: it is loaded where the user installed it.
Function signatures and constants are those of its public header, speak_lib.h.
"""

import ctypes
import threading
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cosyserve import errors
from cosyserve.errors import CosyError

_SYNCHRONOUS = 0x2  # AUDIO_OUTPUT_SYNCHRONOUS: espeak_Synth returns when the speech is complete
_DONT_EXIT = 0x8000  # espeakINITIALIZE_DONT_EXIT: report missing data instead of ending the process
_UTF8, _END_PAUSE = 0x1, 0x1000  # espeakCHARS_UTF8, espeakENDPAUSE: silence after the sentence
_CHUNK_MS = 200

_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


class Espeak:
    """The library has one global state. Get it from `espeak()`; threads take turns."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        try:
            import espeakng_loader
        except ImportError:
            raise CosyError(errors.NO_SYNTHESIZER) from None
        try:
            self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        except OSError as error:
            raise CosyError(errors.ESPEAK_UNUSABLE, reason=error) from error
        data = Path(espeakng_loader.get_data_path())
        self.sample_rate: int = self._library.espeak_Initialize(
            _SYNCHRONOUS, _CHUNK_MS, str(data.parent).encode(), _DONT_EXIT
        )
        if self.sample_rate <= 0:
            raise CosyError(errors.ESPEAK_UNUSABLE, reason=f"no voice data in {data}")
        self._spoken = bytearray()
        self._callback = _Callback(self._collect)  # held here, or it is freed under the library
        self._library.espeak_SetSynthCallback(self._callback)

    def speak(self, text: str, voice: str) -> NDArray[np.int16]:
        """The whole of `text` in eSpeak's `voice` (such as `cmn+f2`), at `sample_rate`."""
        with self._turn:
            return self._speak(text, voice)

    def _speak(self, text: str, voice: str) -> NDArray[np.int16]:
        self._spoken.clear()
        if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise CosyError(errors.ESPEAK_UNUSABLE, reason=f"it has no voice {voice}")
        data = text.encode() + b"\0"
        failed = self._library.espeak_Synth(data, ctypes.c_size_t(len(data)), 0, 1, 0, _UTF8 | _END_PAUSE, None, None)
        if failed:
            raise RuntimeError(f"espeak_Synth returned {failed}")
        return np.frombuffer(bytes(self._spoken), dtype=np.int16)

    def _collect(self, samples: "ctypes._Pointer[ctypes.c_short]", count: int, _events: int | None) -> int:
        if samples and count > 0:
            self._spoken += ctypes.string_at(samples, count * 2)
        return 0  # go on


@cache
def espeak() -> Espeak:
    """The library of this process, initialised once: a second espeak_Initialize frees the phoneme tables and
    leaves pointers to them in its voices (valgrind shows the reads; Mandarin then loses its tones)."""
    return Espeak()
