// Plays a take, while it arrives or later: its parts are queued on the audio clock, one right behind the other.

import { RATE } from "./decoders.js";

const LEAD = 0.12; // seconds between a start and its sound
const RUNNING_DRY = 1; // seconds
const AHEAD = 60; // seconds of sound that are decoded before they are heard
const MOST_RESERVE = 30; // seconds
const TICK = 100; // ms
const PATIENCE = 1500; // ms for the browser to begin to play

// Events: "change" (playing, waiting or blocked), "time", "ended".
export class Player extends EventTarget {
  take = null;
  playing = false;
  collecting = false; // it waits for more to arrive
  blocked = null; // why nothing is heard: "click" or "silent"
  dryRuns = 0; // of this take
  #context = null;
  #pieces = []; // {at, seconds, from, source}: what is queued, on the audio clock and in the take
  #next = 0; // the sample that is queued next
  #reserve = 0; // seconds that have to be there before it starts again
  #all = false; // everything is queued
  #turn = 0; // counts what makes earlier parts useless
  #pumping = false;
  #heard = () => this.#pump();

  // To be called where a person has pressed something: only then do browsers play.
  async unlock() {
    try {
      this.#context ??= this.#newContext();
    } catch {
      return this.#block("silent");
    }
    const patience = new Promise((resolve) => setTimeout(resolve, PATIENCE));
    await Promise.race([this.#context.resume().catch(() => {}), patience]);
    return this.#block(this.#context.state === "running" ? null : "click");
  }

  #newContext() {
    const context = new AudioContext({ sampleRate: RATE });
    this.analyser = context.createAnalyser();
    this.analyser.connect(context.destination);
    return context;
  }

  #block(why) {
    this.blocked = why;
    if (why) this.playing = false;
    this.#tell("change");
  }

  #tell(what) {
    this.dispatchEvent(new Event(what));
  }

  load(take) {
    this.pause();
    this.take?.removeEventListener("news", this.#heard);
    this.take = take;
    take?.addEventListener("news", this.#heard);
    this.dryRuns = this.#reserve = 0;
    this.#move(0);
    this.#tell("change");
  }

  // Seconds of the take that have been heard.
  get position() {
    if (!this.#context || !this.#pieces.length) return this.#next / RATE;
    const now = this.#context.currentTime;
    const piece = this.#pieces.findLast(({ at }) => at <= now) ?? this.#pieces[0];
    return piece.from / RATE + Math.min(Math.max(0, now - piece.at), piece.seconds);
  }

  get #lead() {
    const piece = this.#pieces.at(-1);
    return piece ? Math.max(0, piece.at + piece.seconds - this.#context.currentTime) : 0;
  }

  async play() {
    if (!this.take) return;
    if (this.#all && !this.#lead) this.#move(0);
    this.playing = true;
    this.collecting = !this.#pieces.length;
    this.#tell("change");
    await this.unlock();
    if (!this.playing) return;
    clearInterval(this.ticking);
    this.ticking = setInterval(() => this.#tick(), TICK);
    this.#pump();
  }

  pause() {
    clearInterval(this.ticking);
    this.playing = this.collecting = false;
    this.#context?.suspend().catch(() => {});
    this.#tell("change");
  }

  seek(seconds) {
    this.#move(Math.round(seconds * RATE));
    if (this.playing) this.#pump();
    this.#tell("time");
  }

  #move(sample) {
    this.#turn++;
    for (const { source } of this.#pieces) {
      source.onended = null;
      source.stop();
    }
    this.#pieces = [];
    this.#next = Math.min(sample, this.take?.available ?? 0);
    this.#all = false;
    this.collecting = this.playing;
  }

  #tick() {
    if (!this.#lead && !this.collecting && this.#pieces.length) {
      if (this.#all) return this.#end();
      this.#ranDry();
    }
    this.#pump();
    return this.#tell("time");
  }

  // What came was not enough. The next time there has to be more of it: silence comes seldom, not again and again.
  #ranDry() {
    this.dryRuns++;
    this.#reserve = Math.min(MOST_RESERVE, Math.max(1, 2 * this.#reserve));
    this.collecting = true;
    this.#tell("change");
  }

  #end() {
    this.pause();
    this.#tell("time");
    this.#tell("ended");
  }

  // Whether a part is to be decoded: not a breath at a time, unless silence is near, and not long before it is heard.
  get #isDue() {
    const { take } = this;
    const waiting = (take.available - this.#next) / RATE;
    if (this.#all || !this.playing || this.blocked) return false;
    if (take.ended) return this.#lead < AHEAD;
    if (this.collecting) return waiting > 0 && waiting >= this.#reserve;
    const lead = this.#lead;
    return waiting > 0 && (lead < RUNNING_DRY || (waiting > RUNNING_DRY && lead < AHEAD));
  }

  async #pump() {
    if (this.#pumping) return;
    this.#pumping = true;
    try {
      while (this.take && this.#isDue) {
        const turn = this.#turn;
        const part = await this.take.part(this.#next).catch((error) => ({ error }));
        if (turn !== this.#turn) continue; // another place or another take meanwhile
        if (part.error && this.take.ended) return this.#block("unplayable");
        if (part.error || !(part.samples.length || part.isLast)) break; // too little yet
        this.#queue(part);
      }
    } finally {
      this.#pumping = false;
    }
    return undefined;
  }

  #queue({ samples, isLast }) {
    this.#all = isLast;
    if (!samples.length) return;
    const context = this.#context;
    const buffer = context.createBuffer(1, samples.length, RATE);
    buffer.copyToChannel(samples, 0);
    const source = context.createBufferSource();
    source.buffer = buffer;
    source.connect(this.analyser);
    if (!this.#lead && this.#pieces.length && !this.collecting) this.#ranDry();
    const at = this.#lead ? this.#pieces.at(-1).at + this.#pieces.at(-1).seconds : context.currentTime + LEAD;
    source.start(at);
    const now = context.currentTime;
    this.#pieces = this.#pieces.filter((piece) => piece.at + piece.seconds > now);
    this.#pieces.push({ at, seconds: buffer.duration, from: this.#next, source });
    this.dispatchEvent(new CustomEvent("sound", { detail: { samples, from: this.#next } }));
    this.#next += samples.length;
    if (this.collecting) {
      this.collecting = false;
      this.#tell("change");
    }
  }
}
