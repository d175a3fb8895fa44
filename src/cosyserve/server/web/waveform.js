// Draws the loudness of what has been decoded of a take, and marks how much of it has been heard.

const STEP = 0.02; // seconds a value stands for

// Notes the loudness of samples that lie at `from` in the take.
export function note(peaks, samples, from, rate) {
  const step = Math.round(STEP * rate);
  for (let i = 0; i < samples.length; i++) {
    const at = Math.floor((from + i) / step);
    peaks[at] = Math.max(peaks[at] ?? 0, Math.abs(samples[i]));
  }
}

export function draw(canvas, peaks, position, seconds) {
  const scale = window.devicePixelRatio || 1;
  const width = (canvas.width = canvas.clientWidth * scale);
  const height = (canvas.height = canvas.clientHeight * scale);
  const { color: heard, borderTopColor: ahead } = getComputedStyle(canvas);
  const context = canvas.getContext("2d");
  const bars = Math.max(1, Math.floor(width / (3 * scale)));
  const count = Math.max(1, Math.ceil(seconds / STEP));
  for (let bar = 0; bar < bars; bar++) {
    const from = Math.floor((bar * count) / bars);
    const to = Math.max(from + 1, Math.floor(((bar + 1) * count) / bars));
    let level = 0;
    for (let at = from; at < to; at++) level = Math.max(level, peaks[at] ?? 0);
    const tall = Math.max(scale, level * height);
    context.fillStyle = from * STEP < position ? heard : ahead;
    context.fillRect((bar * width) / bars, (height - tall) / 2, 2 * scale, tall);
  }
}
