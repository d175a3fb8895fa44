// Bytes as they arrive, to samples as they are played: `push` keeps the bytes, `take` gives the next samples that can be
// decoded. Until then sound has the size that it came with, so that of a long text little more than that is in memory.

import { framings, wavHeader } from "./framing.js";

const RATE = 24000; // of all samples here
const PORTION = 30 * RATE; // at most taken at once

// 16-bit samples, behind a header of which `headerSize` says the size once it is whole.
class PcmDecoder {
  constructor(headerSize) {
    this.headerSize = headerSize;
    this.header = new Uint8Array(0); // as long as it is not whole
    this.chunks = [];
    this.untaken = this.taken = 0; // bytes
  }

  // How much sound has arrived.
  get seconds() {
    return (this.taken + this.untaken) / 2 / RATE;
  }

  // How much of it can be taken, in seconds.
  get waiting() {
    return (this.untaken >> 1) / RATE;
  }

  push(bytes) {
    let samples = bytes;
    if (this.header) {
      this.header = joined([this.header, bytes]);
      const size = this.headerSize(this.header);
      if (size === null) return;
      samples = this.header.subarray(size);
      this.header = null;
    }
    this.untaken += samples.length;
    this.chunks.push(samples);
  }

  end() {}

  async take() {
    const count = Math.min(this.untaken >> 1, PORTION);
    const view = new DataView(this.#bytes(count * 2).buffer);
    const samples = new Float32Array(count);
    for (let i = 0; i < count; i++) samples[i] = view.getInt16(i * 2, true) / 32768;
    return samples;
  }

  #bytes(size) {
    const bytes = new Uint8Array(size);
    for (let at = 0; at < size; ) {
      const chunk = this.chunks.shift();
      const used = chunk.subarray(0, size - at);
      bytes.set(used, at);
      at += used.length;
      if (used.length < chunk.length) this.chunks.unshift(chunk.subarray(used.length));
    }
    this.untaken -= size;
    this.taken += size;
    return bytes;
  }
}

// What the browser itself decodes, a few frames at a time. Those before them are decoded again, since a frame sounds right
// only after others; and the last moment of a part is left to the next one.
class FrameDecoder {
  static BEFORE = 0.25 * RATE;
  static AFTER = 0.1 * RATE;

  constructor(nextFrame, context) {
    this.nextFrame = nextFrame;
    this.context = context;
    this.rest = new Uint8Array(0); // of a frame that is not whole yet
    this.head = [];
    this.frames = []; // {bytes, from, to}: where a frame lies in the sound, in samples
    this.arrived = this.taken = 0; // samples
    this.added = null; // by the codec, to the length of a part
    this.inParts = true;
    this.ended = false;
  }

  get seconds() {
    return this.arrived / RATE;
  }

  get waiting() {
    if (!this.frames.length) return 0;
    return Math.max(0, this.arrived - this.taken - (this.ended ? 0 : FrameDecoder.AFTER)) / RATE;
  }

  push(bytes) {
    let left = joined([this.rest, bytes]);
    for (let found; (found = this.nextFrame(left)); left = left.subarray(found.size)) {
      const frame = left.subarray(0, found.size);
      if (found.samples === null) this.head.push(frame);
      else this.#add(frame, found.samples);
    }
    this.rest = left.slice();
  }

  // No more comes: what is left is the last frame.
  end() {
    if (this.rest.length) this.#add(this.rest, 1);
    this.rest = new Uint8Array(0);
    this.ended = true;
  }

  async take() {
    const first = this.inParts ? this.frames.findIndex((frame) => frame.to > this.taken - FrameDecoder.BEFORE) : 0;
    const part = this.frames.slice(first).filter((frame) => !this.inParts || frame.from < this.taken + PORTION);
    if (!part.length) return new Float32Array(0);
    const isLast = this.ended && part.at(-1) === this.frames.at(-1);
    const { from } = part[0];
    const length = part.at(-1).to - from;
    const buffer = await this.context.decodeAudioData(joined([...this.head, ...part.map((frame) => frame.bytes)]).buffer);
    if (!isLast && !this.#asExpected(buffer.length - length)) {
      this.inParts = false;
      return this.take();
    }
    if (this.inParts) this.frames.splice(0, first);
    const end = Math.max(this.taken, isLast ? from + buffer.length : from + length - FrameDecoder.AFTER);
    const samples = buffer.getChannelData(0).slice(this.taken - from, end - from);
    this.taken = end;
    if (isLast) this.frames = [];
    return samples;
  }

  // Whether this browser decodes a part as it does the beginning. Where it does not, all is decoded from there each time.
  #asExpected(added) {
    this.added ??= added;
    return !this.inParts || Math.abs(added - this.added) < 0.005 * RATE;
  }

  #add(bytes, samples) {
    this.frames.push({ bytes, from: this.arrived, to: this.arrived + samples });
    this.arrived += samples;
  }
}

function joined(parts) {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

export function decoderFor(format, context) {
  if (format === "pcm") return new PcmDecoder(() => 0);
  if (format === "wav") return new PcmDecoder(wavHeader);
  return new FrameDecoder(framings[format](), context);
}
