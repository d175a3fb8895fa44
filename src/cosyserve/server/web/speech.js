// One response of the server as it arrives: server-sent events with sound in them, and what is said when. Or a file as it
// was kept.

import { decoderFor } from "./decoders.js";

export class Speech {
  #decoder;
  #text = new TextDecoder();
  #rest = ""; // of an event that is not whole yet
  #news = {};

  constructor(format) {
    this.#decoder = decoderFor(format);
  }

  // Each gives the news: {arrived, available, segments, captions, error, done}.
  events(bytes) {
    const events = (this.#rest + this.#text.decode(bytes, { stream: true })).split("\n\n");
    this.#rest = events.pop();
    for (const event of events) if (event.startsWith("data: ")) this.#take(JSON.parse(event.slice(6)));
    return this.#told();
  }

  file(bytes) {
    this.#decoder.push(bytes);
    return this.end();
  }

  end() {
    this.#decoder.end();
    return { ...this.#told(), ended: true };
  }

  part(...given) {
    return this.#decoder.part(...given);
  }

  bytes() {
    return this.#decoder.bytes.from(0).slice();
  }

  #take({ type, audio, text, begin, captions, error }) {
    if (type === "speech.audio.delta") this.#decoder.push(Uint8Array.from(atob(audio), (letter) => letter.charCodeAt(0)));
    else if (type === "speech.audio.segment") (this.#news.segments ??= []).push({ text, begin });
    else if (type === "speech.audio.done") Object.assign(this.#news, { done: true, captions });
    else if (type === "error") this.#news.error = error;
  }

  #told() {
    const news = { ...this.#news, arrived: this.#decoder.arrived, available: this.#decoder.available };
    this.#news = {};
    return news;
  }
}
