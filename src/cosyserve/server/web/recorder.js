// Records from the microphone, and says how loud it is and how long it has lasted.

const LONGEST = 30; // seconds
const TICK = 100; // ms

export const canRecord = () => Boolean(navigator.mediaDevices?.getUserMedia && window.MediaRecorder);

// Begins at once; raises what the browser raises where it gives no microphone. `onTick` gets (level from 0 to 1, seconds).
export async function record(onTick) {
  const stream = await navigator.mediaDevices.getUserMedia({ audio: { echoCancellation: false, noiseSuppression: false } });
  const context = new AudioContext();
  const analyser = context.createAnalyser();
  context.createMediaStreamSource(stream).connect(analyser);
  const recorder = new MediaRecorder(stream);
  const pieces = [];
  recorder.addEventListener("dataavailable", ({ data }) => pieces.push(data));
  const began = performance.now();
  const samples = new Float32Array(analyser.fftSize);
  const timer = setInterval(() => {
    analyser.getFloatTimeDomainData(samples);
    const level = samples.reduce((most, sample) => Math.max(most, Math.abs(sample)), 0);
    const seconds = (performance.now() - began) / 1000;
    onTick(level, seconds);
    if (seconds >= LONGEST) stop();
  }, TICK);
  const done = new Promise((resolve) => recorder.addEventListener("stop", () => resolve(new Blob(pieces, { type: recorder.mimeType }))));

  function stop() {
    if (recorder.state !== "inactive") recorder.stop();
    clearInterval(timer);
    for (const track of stream.getTracks()) track.stop();
    context.close().catch(() => {});
  }

  recorder.start();
  return { stop, done };
}
