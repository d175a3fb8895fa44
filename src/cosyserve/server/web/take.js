// A take: one utterance with the settings it was asked for with, its sound and what is said in it when.

import { RATE, Samples } from "./decoders.js";

const worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
const asked = new Map(); // id → {resolve, reject}
let last = 0;

worker.addEventListener("message", ({ data: { id, answer, failure } }) => {
  const { resolve, reject } = asked.get(id);
  asked.delete(id);
  if (failure) reject(new Error(failure));
  else resolve(answer);
});

function call(speech, name, given = [], transferred = []) {
  return new Promise((resolve, reject) => {
    asked.set(++last, { resolve, reject });
    worker.postMessage({ id: last, speech, call: name, given }, transferred);
  });
}

// One at 24 kHz decodes without playing, and needs nobody's click.
let decoding = null;

function decode(data) {
  decoding ??= new OfflineAudioContext(1, 1, RATE);
  return decoding.decodeAudioData(data);
}

const MEDIA_TYPES = { mp3: "audio/mpeg", opus: "audio/ogg", aac: "audio/aac", flac: "audio/flac", wav: "audio/wav", pcm: "audio/pcm" };

export class Take extends EventTarget {
  arrived = 0; // samples
  available = 0; // samples that can be played
  ended = false; // no more comes
  complete = false; // all of it came
  captions = []; // {text, begin, end}, in seconds; the end of the last one is open while it arrives
  peaks = [];
  starred = false;
  error = null; // what the server said in the middle
  #samples;

  constructor(settings, id = crypto.getRandomValues(new Uint32Array(2)).join("-")) {
    super();
    this.id = id;
    this.settings = settings;
    this.created = Date.now();
    this.#samples = new Samples(decode, (...given) => call(id, "part", given));
    call(id, "open", [settings.format]);
  }

  get seconds() {
    return this.arrived / RATE;
  }

  get type() {
    return MEDIA_TYPES[this.settings.format];
  }

  // Bytes of the server's events; they are the worker's from then on.
  async push(bytes) {
    this.#hear(await call(this.id, "events", [bytes], [bytes.buffer]));
  }

  async end() {
    this.#hear(await call(this.id, "end"));
  }

  async restore(bytes) {
    this.#hear(await call(this.id, "file", [bytes], [bytes.buffer]));
  }

  // {samples, isLast} from a sample on.
  part(from) {
    return this.#samples.from(from);
  }

  async file() {
    return new Blob([await call(this.id, "bytes")], { type: this.type });
  }

  close() {
    call(this.id, "close");
  }

  #hear({ arrived, available, segments = [], captions, error, done, ended }) {
    Object.assign(this, { arrived, available });
    for (const { text, begin } of segments) {
      if (this.captions.length) this.captions.at(-1).end = begin;
      this.captions.push({ text, begin, end: null });
    }
    if (captions) this.captions = captions;
    if (done) this.complete = true;
    if (error) this.error = error;
    if (ended) {
      this.ended = true;
      for (const caption of this.captions) caption.end ??= this.seconds;
    }
    this.dispatchEvent(new Event("news"));
  }
}

// Which caption is spoken at a moment; -1 before the first one.
export const captionAt = (captions, seconds) => captions.findLastIndex(({ begin }) => begin <= seconds + 0.01);

// The moment in `other` that is the same place of the text as `seconds` in `take`.
export function samePlace(take, seconds, other) {
  const index = captionAt(take.captions, seconds);
  if (index >= 0 && take.captions.length === other.captions.length) return other.captions[index].begin;
  return take.seconds ? (seconds / take.seconds) * other.seconds : 0;
}

// Captions as SubRip writes them.
export function subRip(captions) {
  const time = (seconds) => {
    const ms = Math.round(seconds * 1000);
    const two = (number) => String(number).padStart(2, "0");
    const parts = [Math.floor(ms / 3600000), Math.floor(ms / 60000) % 60, Math.floor(ms / 1000) % 60].map(two);
    return `${parts.join(":")},${String(ms % 1000).padStart(3, "0")}`;
  };
  return captions.map(({ text, begin, end }, i) => `${i + 1}\n${time(begin)} --> ${time(end)}\n${text.trim()}\n`).join("\n");
}
