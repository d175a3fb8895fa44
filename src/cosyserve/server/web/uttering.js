// Has a take spoken: asks for it, again while the server is full, and hands over what comes.

import { bodyOf, post, Problem, problemIn } from "./server.js";
import { texts } from "./texts.js";

const LEAST_WAIT = 1; // seconds

// Resolves when all has come. Raises `Problem` for what a person has to know; a take that has some sound keeps it.
export async function uttering(take, signal, onWaiting) {
  let first = null;
  take.addEventListener("news", () => {
    if (!take.arrived) return;
    const passed = performance.now() - take.asked;
    first ??= Math.round(passed);
    take.figures = texts.figures(first, (passed / 1000 / take.seconds).toFixed(3));
  });
  const response = await answer(take, signal, onWaiting);
  try {
    for (const reader = response.body.getReader(); ; ) {
      const { value, done } = await reader.read();
      if (done) break;
      await take.push(value);
    }
  } catch (error) {
    if (error.name === "AbortError") throw error;
    // Broken off: what came is looked at below.
  } finally {
    await take.end();
  }
  if (take.error) {
    const problem = problemIn({ error: take.error });
    if (take.arrived) problem.message = `${texts.brokenOff} ${problem.message}`;
    throw problem;
  }
  if (!take.arrived) throw new Problem("lost", texts.lost);
  if (!take.complete) throw new Problem("broken", texts.brokenOff);
}

async function answer(take, signal, onWaiting) {
  for (;;) {
    take.asked = performance.now();
    try {
      return await post("v1/audio/speech", bodyOf(take.settings), signal, { stream_format: "sse" });
    } catch (error) {
      if (!(error instanceof Problem && error.isBusy)) throw error;
      await countDown(Math.max(LEAST_WAIT, error.wait), signal, onWaiting);
    }
  }
}

// Says each second how long it still is.
async function countDown(seconds, signal, onWaiting) {
  for (let left = seconds; left > 0; left--) {
    onWaiting(left);
    await new Promise((resolve, reject) => {
      const timer = setTimeout(resolve, 1000);
      const stop = () => {
        clearTimeout(timer);
        reject(new DOMException("stopped", "AbortError"));
      };
      if (signal.aborted) stop();
      signal.addEventListener("abort", stop, { once: true });
    });
  }
  onWaiting(0);
}
