// Draws the loudness of what has arrived, and marks how much of it has been heard.

const STEP = 0.02; // seconds a value stands for

export class Waveform {
  constructor(canvas) {
    this.canvas = canvas;
    this.reset();
  }

  reset() {
    this.peaks = [];
    this.peak = 0;
    this.count = 0;
    this.draw(0);
  }

  add(samples, sampleRate) {
    const perStep = Math.round(STEP * sampleRate);
    for (const sample of samples) {
      this.peak = Math.max(this.peak, Math.abs(sample));
      if (++this.count === perStep) {
        this.peaks.push(this.peak);
        this.peak = this.count = 0;
      }
    }
  }

  draw(position) {
    const { canvas, peaks } = this;
    const scale = window.devicePixelRatio || 1;
    const width = (canvas.width = canvas.clientWidth * scale);
    const height = (canvas.height = canvas.clientHeight * scale);
    const { color: heard, borderTopColor: ahead } = getComputedStyle(canvas);
    const context = canvas.getContext("2d");
    const bars = Math.max(1, Math.floor(width / (3 * scale)));
    for (let bar = 0; bar < bars; bar++) {
      const from = Math.floor((bar * peaks.length) / bars);
      const to = Math.max(from + 1, Math.floor(((bar + 1) * peaks.length) / bars));
      const level = peaks.length ? Math.max(0, ...peaks.slice(from, to)) : 0;
      const tall = Math.max(scale, level * height);
      context.fillStyle = from * STEP < position ? heard : ahead;
      context.fillRect((bar * width) / bars, (height - tall) / 2, 2 * scale, tall);
    }
  }
}
