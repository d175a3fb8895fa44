import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from cosyserve.speech.audio import SAMPLE_RATE
from tests.browser.packages import from_npm
from tests.running import HANGS

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = [
    "--no-sandbox",
    "--autoplay-policy=no-user-gesture-required",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--use-fake-ui-for-media-stream",  # whoever asks for the microphone gets it
    "--use-fake-device-for-media-stream",
    "--host-resolver-rules=MAP *.example 127.0.0.1",  # as a name server would that somebody else owns
    # Of several lists Chromium takes the last one. The first three are in Playwright's; the others draw an address bar
    # for each page, which nobody sees, for half a second of a processor.
    "--disable-features=HttpsUpgrades,HttpsFirstBalancedModeAutoEnable,PaintHolding,"
    "WebUIOmniboxPopup,WebUIOmniboxFullPopup,WebUIOmniboxAimPopup",
]


AXE = "axe-core@4.10.3"
AXE_DIGEST = "Xm7bpRXnDSX2YE2YFfBk2FnF0ep6tmG7xPh8iHee8MIcrgq762Nkce856dYtJYLkuIoYZvGfTs/PbZhideTcEg=="
"""npm's SHA-512 of the archive."""


@pytest.fixture(scope="session")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The code of axe, which checks pages for what keeps people from using them."""
    return from_npm(AXE, AXE_DIGEST, "axe.min.js", tmp_path_factory.mktemp("axe")).decode()


def a_voice(path: Path) -> Path:
    """What the microphone hears: nine seconds of a tone that rises and falls as a voice does, without a pause."""
    times = np.arange(9 * SAMPLE_RATE) / SAMPLE_RATE
    sound = np.sin(2 * np.pi * (180 * times + 12 * np.sin(2 * times))) * (0.35 + 0.15 * np.sin(9 * times))
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, SAMPLE_RATE, 0, "NONE", ""))
        file.writeframes((sound * 32767).astype("<i2").tobytes())
    return path


@pytest.fixture(scope="session")
def microphone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return a_voice(tmp_path_factory.mktemp("microphone") / "voice.wav")


@pytest.fixture(scope="module")
def browser(microphone: Path) -> Iterator[Browser]:
    """Not for the whole session: while Playwright runs, no other test in this thread can have an event loop."""
    if not Path(CHROMIUM).exists():
        pytest.fail(f"{CHROMIUM} is missing: apt-get install chromium, or run `make test-fast`")
    expect.set_options(timeout=HANGS * 1000)
    with sync_playwright() as playwright:
        arguments = [*ARGUMENTS, f"--use-file-for-fake-audio-capture={microphone}"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments, timeout=HANGS * 1000)
        yield browser
        browser.close()
