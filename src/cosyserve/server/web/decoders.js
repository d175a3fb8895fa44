// Bytes as they arrive, to sound from any place. Bytes are kept as they came, in one piece; `part(from)` gives what is to be
// heard from a sample on: samples where they are plain, else a few frames for the browser to decode. So a long text takes
// little more memory than its bytes, and the work is in proportion to what is heard.

import { framings, wavHeader } from "./framing.js";

export const RATE = 24000; // of all samples here
const PORTION = 30 * RATE; // at most taken at once
const BEFORE = 0.25 * RATE; // decoded before a part and thrown away: a frame sounds right only after others
const AFTER = 0.1 * RATE; // left to the next part

// Bytes that grow at their end.
export class Bytes {
  #room = new Uint8Array(1 << 16);
  length = 0;

  push(bytes) {
    if (this.length + bytes.length > this.#room.length) {
      const room = new Uint8Array(Math.max(2 * this.#room.length, this.length + bytes.length));
      room.set(this.from(0));
      this.#room = room;
    }
    this.#room.set(bytes, this.length);
    this.length += bytes.length;
  }

  // A view, which is right until the next push.
  from(start, end = this.length) {
    return this.#room.subarray(start, end);
  }
}

// 16-bit samples, behind a header of which `headerSize` says the size once it is whole.
class PcmDecoder {
  bytes = new Bytes();
  #start = null;
  #headerSize;

  constructor(headerSize) {
    this.#headerSize = headerSize;
  }

  // Samples that have arrived, all of which can be heard.
  get arrived() {
    return this.#start === null ? 0 : (this.bytes.length - this.#start) >> 1;
  }

  get available() {
    return this.arrived;
  }

  push(bytes) {
    this.bytes.push(bytes);
    this.#start ??= this.#headerSize(this.bytes.from(0));
  }

  end() {
    this.ended = true;
  }

  part(from) {
    const count = Math.max(0, Math.min(this.arrived - from, PORTION));
    const bytes = this.bytes.from(this.#start + 2 * from, this.#start + 2 * (from + count));
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    const samples = new Float32Array(count);
    for (let i = 0; i < count; i++) samples[i] = view.getInt16(i * 2, true) / 32768;
    return { samples, isLast: Boolean(this.ended) && from + count === this.arrived };
  }
}

// Frames that the browser decodes: where each begins, in bytes and in samples.
class FrameDecoder {
  bytes = new Bytes();
  arrived = 0; // samples
  #nextFrame;
  #read = 0; // bytes that are in frames
  #head = 0; // bytes before the sound, which belong to every part
  #at = []; // of frames: byte
  #from = []; // of frames: sample

  constructor(nextFrame) {
    this.#nextFrame = nextFrame;
  }

  get available() {
    return Math.max(0, this.arrived - (this.ended ? 0 : AFTER));
  }

  push(bytes) {
    this.bytes.push(bytes);
    for (let found; (found = this.#nextFrame(this.bytes.from(this.#read))); this.#read += found.size) {
      if (found.samples === null && !this.#at.length) this.#head += found.size;
      else this.#add(found.samples ?? 0);
    }
  }

  // No more comes: what is left is the last frame.
  end() {
    if (this.#read < this.bytes.length && (this.#head || this.#at.length)) this.#add(1);
    this.#read = this.bytes.length;
    this.ended = true;
  }

  // {encoded, skip, length, added, isLast}: of what is decoded, `skip` samples are to be left out and `length` kept, or all
  // that follow in the last part. It should be `expected` samples long, and is by what a codec adds. `whole` begins at the
  // beginning, for browsers that decode a part in another way; `cut` leaves the last frame out, of which not all has come.
  part(from, whole = false, cut = false) {
    const isShort = Boolean(this.ended) && this.arrived <= PORTION;
    const first = whole || isShort ? 0 : Math.max(0, this.#frameAt(from - BEFORE));
    const frames = this.#at.length - (cut ? 1 : 0);
    const end = Math.min(this.#frameAt(from + PORTION) + 1, frames);
    const isLast = Boolean(this.ended) && end >= frames;
    if (end <= first) return { encoded: new Uint8Array(0), isLast };
    const start = this.#from[first] ?? 0;
    const stop = this.#from[end] ?? this.arrived;
    return {
      encoded: joined(this.bytes.from(0, this.#head), this.bytes.from(this.#at[first] ?? 0, this.#at[end] ?? this.#read)),
      skip: from - start,
      length: Math.max(0, stop - AFTER - from),
      expected: stop - start,
      isLast,
    };
  }

  // The last frame that begins at or before a sample.
  #frameAt(sample) {
    let low = 0;
    let high = this.#from.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#from[middle] <= sample) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }

  #add(samples) {
    this.#at.push(this.#read);
    this.#from.push(this.arrived);
    this.arrived += samples;
  }
}

function joined(first, second) {
  const bytes = new Uint8Array(first.length + second.length);
  bytes.set(first);
  bytes.set(second, first.length);
  return bytes;
}

export function decoderFor(format) {
  if (format === "pcm") return new PcmDecoder(() => 0);
  if (format === "wav") return new PcmDecoder(wavHeader);
  return new FrameDecoder(framings[format]());
}

// Samples of parts, where the browser decodes them: `decode` takes an ArrayBuffer and gives an AudioBuffer. `part` asks for a
// part as `FrameDecoder.part` does.
export class Samples {
  #decode;
  #part;
  #added = null; // samples, by the codec, to the length of a part
  #inParts = true;
  #begun = false;

  constructor(decode, part) {
    this.#decode = decode;
    this.#part = part;
  }

  async from(sample, cut = false) {
    if (sample > 0 && !this.#begun) await this.from(0); // the beginning is what other parts are held against
    this.#begun = true;
    const part = await this.#part(sample, !this.#inParts, cut);
    if (part.samples) return part;
    if (!part.encoded.length) return { samples: new Float32Array(0), isLast: part.isLast };
    const buffer = await this.#decode(part.encoded.buffer).catch((error) => {
      if (!part.isLast || cut) throw error;
      return null;
    });
    if (!buffer) return this.from(sample, true); // the stream broke off in its last frame
    if (!part.isLast && !this.#asExpected(buffer.length - part.expected)) {
      this.#inParts = false;
      return this.from(sample);
    }
    const end = part.isLast ? buffer.length : part.skip + part.length;
    return { samples: buffer.getChannelData(0).slice(part.skip, end), isLast: part.isLast };
  }

  // Whether this browser decodes a part as it does the beginning. Where it does not, all is decoded from there each time.
  #asExpected(added) {
    this.#added ??= added;
    return !this.#inParts || Math.abs(added - this.#added) < 0.005 * RATE;
  }
}
