"""The page's decoders in a real Chromium: parts of a stream sound as the whole does, and the work is in proportion."""

import base64
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser

from cosyserve.speech.audio import SAMPLE_RATE, Pcm
from cosyserve.speech.encoders import FORMATS
from cosyserve.speech.label import Label
from tests.browser.opening import opened
from tests.running import Server

pytestmark = pytest.mark.browser

# Pushes a stream piece by piece and takes what can be taken after each; beside it the whole, decoded at once, and three
# places of it that somebody seeks.
DECODE = """async ([format, text, sizes]) => {
  const { Samples, decoderFor } = await import("./web/decoders.js");
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const context = new OfflineAudioContext(1, 1, 24000);
  let decoded = 0;
  const decode = async (data) => {
    const buffer = await context.decodeAudioData(data);
    decoded += buffer.duration;
    return buffer;
  };
  const decoder = decoderFor(format);
  const samples = new Samples(decode, (...given) => decoder.part(...given));
  const parts = [];
  let next = 0;
  const take = async () => {
    const part = await samples.from(next);
    parts.push(part.samples);
    next += part.samples.length;
    return part.isLast;
  };
  for (let at = 0, turn = 0; at < bytes.length; turn++) {
    const size = sizes[turn % sizes.length];
    decoder.push(bytes.subarray(at, at + size));
    at += size;
    if (decoder.available > next) await take().catch(() => {});
  }
  decoder.end();
  while (!(await take()));
  const seconds = decoder.arrived / 24000;
  const all = new Float32Array(next);
  parts.reduce((at, part) => (all.set(part, at), at + part.length), 0);
  const whole =
    format === "pcm"
      ? Float32Array.from(new Int16Array(bytes.buffer.slice(0)), (sample) => sample / 32768)
      : (await context.decodeAudioData(bytes.buffer.slice(0))).getChannelData(0);
  const rms = (of) => Math.sqrt(of.reduce((sum, each) => sum + each * each, 0) / of.length);
  const apart = (one, from) => {
    const other = whole.subarray(from, from + one.length);
    const difference = one.map((sample, i) => sample - other[i]);
    return {
      apart: rms(difference) / rms(other),
      farthest: difference.reduce((most, each) => Math.max(most, Math.abs(each)), 0),
    };
  };
  const work = decoded;
  const sought = [];
  for (const place of [0.7, 0.2, 0.45]) {
    const from = Math.round(place * whole.length);
    sought.push(apart((await samples.from(from)).samples.subarray(0, 24000), from));
  }
  return { length: all.length, whole: whole.length, ...apart(all, 0), sought, decoded: work, seconds };
}"""


def sounds(seconds: float) -> Pcm:
    """A tone that goes up and down in pitch and loudness, and breath: no moment is like another."""
    times = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    breath = np.random.default_rng(1).normal(size=times.size) * 0.02
    wave = np.sin(2 * np.pi * (300 * times + 40 * np.sin(1.3 * times))) * (0.3 + 0.2 * np.sin(5 * times)) + breath
    return np.asarray(wave, np.float32)


def stream(name: str, pcm: Pcm) -> bytes:
    """As the server sends it."""
    encoder = FORMATS[name].encoder(Label("CosyServe", "f00d"))
    pieces = [pcm[at : at + SAMPLE_RATE // 2] for at in range(0, pcm.size, SAMPLE_RATE // 2)]
    return b"".join(map(encoder.encode, pieces)) + encoder.finish()


@pytest.mark.parametrize("name", FORMATS)
def test_parts_are_the_whole_and_no_longer_than_it(browser: Browser, server: Server, name: str) -> None:
    seconds = 100.0
    data = stream(name, sounds(seconds))
    asked = [name, base64.b64encode(data).decode(), [round(len(data) / seconds / 2)]]
    with opened(browser, server.url) as page:
        found: dict[str, Any] = page.evaluate(DECODE, asked)
        assert found["length"] == found["whole"], found
        if name == "aac":  # whose decoder draws what is noise, anew each time
            assert found["apart"] < 0.05, found
        else:
            assert found["farthest"] < 1e-3, found
        assert found["seconds"] == pytest.approx(seconds, abs=0.1)
        assert found["decoded"] < 3 * seconds  # half a second a time, and a little before and after it
        for place in found["sought"]:
            assert place["apart"] < (0.05 if name == "aac" else 1e-3), found


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("sizes", [[1, 7, 300, 2], [1 << 20]], ids=["crumbs", "at once"])
def test_bytes_may_come_in_any_pieces(browser: Browser, server: Server, name: str, sizes: list[int]) -> None:
    """At once: more than is taken in one part. In crumbs: less than a frame."""
    pcm = sounds(70 if len(sizes) == 1 else 2)
    data = base64.b64encode(stream(name, pcm)).decode()
    with opened(browser, server.url) as page:
        found: dict[str, Any] = page.evaluate(DECODE, [name, data, sizes])
        assert found["length"] == found["whole"], found
        assert found["apart"] < (0.05 if name == "aac" else 1e-3), found


def test_where_a_browser_decodes_parts_in_another_way_the_whole_is_decoded(browser: Browser, server: Server) -> None:
    """A stand-in for such a browser: it swallows a tenth of a second of every part but the first."""
    odd = """
      const beginning = [];
      const swallows = async (data) => {
        const buffer = await context.decodeAudioData(data.slice(0));
        const start = String(new Uint8Array(data).subarray(800, 1000));
        if (!beginning.length) beginning.push(start);
        if (start === beginning[0]) return buffer;
        const rest = new AudioBuffer({ length: buffer.length - 2400, sampleRate: 24000 });
        rest.copyToChannel(buffer.getChannelData(0).subarray(2400), 0);
        return rest;
      };
      const decoder = decoderFor(format);
      const samples = new Samples(swallows, (...given) => decoder.part(...given));
    """
    data = base64.b64encode(stream("mp3", sounds(4))).decode()
    with opened(browser, server.url) as page:
        begin, end = DECODE.index("  const decoder ="), DECODE.index("  const parts =")
        script = DECODE[:begin] + odd + DECODE[end:]
        assert script != DECODE
        found: dict[str, Any] = page.evaluate(script, ["mp3", data, [4000]])
        assert found["length"] == found["whole"]
        assert found["farthest"] < 1e-3


BROKEN_OFF = """async ([format, text]) => {
  const { Samples, decoderFor } = await import("./web/decoders.js");
  const context = new OfflineAudioContext(1, 1, 24000);
  const decoder = decoderFor(format);
  const samples = new Samples((data) => context.decodeAudioData(data), (...given) => decoder.part(...given));
  decoder.push(Uint8Array.from(atob(text), (character) => character.charCodeAt(0)));
  decoder.end();
  let next = 0;
  for (let isLast = false; !isLast; ) {
    const part = await samples.from(next);
    next += part.samples.length;
    isLast = part.isLast;
  }
  return next / 24000;
}"""


def test_what_came_of_a_stream_that_broke_off_is_decoded(browser: Browser, server: Server) -> None:
    """In the middle of a frame, and of the header."""
    with opened(browser, server.url) as page:
        for name in FORMATS:
            data = stream(name, sounds(40))
            half = base64.b64encode(data[: round(len(data) * 0.87) + 5]).decode()
            assert page.evaluate(BROKEN_OFF, [name, half]) == pytest.approx(35, abs=1.5), name
            assert page.evaluate(BROKEN_OFF, [name, base64.b64encode(data[:7]).decode()]) < 1, name
