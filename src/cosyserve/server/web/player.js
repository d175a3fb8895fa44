// Plays audio while it arrives: samples are queued on the audio clock, one buffer right behind the other.

const LEAD = 0.12; // seconds of slack before the first buffer, and again after the stream has run dry

export class Player {
  constructor(sampleRate) {
    this.context = new AudioContext({ sampleRate });
    this.analyser = this.context.createAnalyser();
    this.analyser.connect(this.context.destination);
    this.startedAt = null;
    this.end = 0; // where on the audio clock the queued sound ends
    this.last = null;
  }

  get lead() {
    return Math.max(0, this.end - this.context.currentTime);
  }

  // Seconds of the sound that have been heard.
  get position() {
    return this.startedAt === null ? 0 : Math.max(0, this.context.currentTime - this.startedAt);
  }

  queue(samples) {
    if (!samples.length) return;
    const buffer = this.context.createBuffer(1, samples.length, this.context.sampleRate);
    buffer.copyToChannel(samples, 0);
    const source = this.context.createBufferSource();
    source.buffer = buffer;
    source.connect(this.analyser);
    if (this.end < this.context.currentTime) {
      const resumed = this.context.currentTime + LEAD;
      this.startedAt = this.startedAt === null ? resumed : this.startedAt + resumed - this.end;
      this.end = resumed;
    }
    source.start(this.end);
    this.end += buffer.duration;
    this.last = source;
  }

  get closed() {
    return this.context.state === "closed";
  }

  // Resolves when less than `lead` seconds are queued, or after close().
  async until(lead) {
    while (!this.closed && this.lead >= lead) await new Promise((resolve) => setTimeout(resolve, 500));
  }

  // Resolves when the last queued sound has been heard, or at once after close().
  finished() {
    if (!this.last || this.closed || !this.lead) return Promise.resolve();
    return new Promise((resolve) => {
      this.last.addEventListener("ended", resolve);
      this.context.addEventListener("statechange", () => this.closed && resolve());
    });
  }

  close() {
    if (!this.closed) this.context.close();
  }
}
