// Bytes as they arrive, to samples as they can be played.

const WAV_HEADER = 44;

// 16-bit samples, with or without a WAV header before them.
class PcmDecoder {
  constructor(skip) {
    this.skip = skip;
    this.odd = new Uint8Array(0);
  }

  async push(bytes) {
    const skipped = Math.min(this.skip, bytes.length);
    this.skip -= skipped;
    const joined = new Uint8Array(this.odd.length + bytes.length - skipped);
    joined.set(this.odd);
    joined.set(bytes.subarray(skipped), this.odd.length);
    const count = joined.length >> 1;
    this.odd = joined.slice(count * 2);
    const samples = new Float32Array(count);
    const view = new DataView(joined.buffer);
    for (let i = 0; i < count; i++) samples[i] = view.getInt16(i * 2, true) / 32768;
    return samples;
  }

  async finish() {
    return new Float32Array(0);
  }
}

// Any format the browser can decode whole. All that has arrived is decoded from its beginning, and the part
// not yet played is taken: the one way that works for every format and browser. It is done only when the
// player is about to run dry or the data has doubled, so the work stays in proportion to the length.
class PrefixDecoder {
  static GUARD = 0.1; // seconds at the end of a prefix that the next bytes may still change
  static RUNNING_DRY = 1; // seconds

  constructor(player) {
    this.player = player;
    this.chunks = [];
    this.size = this.decodedSize = this.taken = 0;
  }

  async push(bytes) {
    this.chunks.push(bytes);
    this.size += bytes.length;
    const due = this.player.lead < PrefixDecoder.RUNNING_DRY || this.size >= 2 * this.decodedSize;
    if (!due) return new Float32Array(0);
    return this.#decode(PrefixDecoder.GUARD).catch(() => new Float32Array(0)); // too little yet: wait for more
  }

  finish() {
    return this.#decode(0);
  }

  async #decode(guard) {
    this.decodedSize = this.size;
    const data = await new Blob(this.chunks).arrayBuffer();
    const buffer = await this.player.context.decodeAudioData(data);
    const end = Math.max(this.taken, buffer.length - Math.round(guard * buffer.sampleRate));
    const samples = buffer.getChannelData(0).slice(this.taken, end);
    this.taken = end;
    return samples;
  }
}

export function decoderFor(format, player) {
  if (format === "pcm") return new PcmDecoder(0);
  if (format === "wav") return new PcmDecoder(WAV_HEADER);
  return new PrefixDecoder(player);
}
