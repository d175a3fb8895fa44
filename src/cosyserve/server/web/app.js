// The page: fills the form, asks the server for speech and plays it while it is made.
// Every address is relative, so that the page works under any path a proxy puts it at.

import { decoderFor } from "./decoders.js";
import { instructions } from "./instructions.js";
import { Player } from "./player.js";
import { isChinese, texts, translatePage } from "./texts.js";
import { Waveform } from "./waveform.js";

const SAMPLE_RATE = 24000;
const STATE_EVERY = 5000; // ms
const RUNNING_DRY = 1; // seconds
const AHEAD = 60; // seconds of sound that are decoded before they are heard
const MODELS = { "cosyvoice2-0.5b": "CosyVoice2", "cosyvoice3-0.5b": "CosyVoice3" }; // as people call them

const $ = (id) => document.getElementById(id);
const waveform = new Waveform($("waveform"));
let running = null; // the request being spoken: {abort, player}
let downloadUrl = null;

function headers(extra = {}) {
  const key = sessionStorage.getItem("key");
  return key ? { ...extra, Authorization: `Bearer ${key}` } : extra;
}

// What a person should read about a response that is no success.
async function problemOf(response) {
  const { error } = await response.json().catch(() => ({}));
  if (response.status === 401) $("key-field").hidden = false;
  if (!error) return `${response.status} ${response.statusText}`;
  const message = isChinese ? `${error.message_zh}\n${error.remedy_zh}` : error.message;
  const wait = response.headers.get("Retry-After");
  return [message, wait && texts.retry(wait), error.code].filter(Boolean).join("\n");
}

function show(problem) {
  $("error").hidden = !problem;
  $("error").textContent = problem ?? "";
}

// Without the key that a server needs, it tells no more than that it is ready.
function described(state) {
  if (!state.synthesizer) return texts.ready;
  const synthesizer = MODELS[state.model] ?? (state.synthesizer === "preview" ? texts.preview : state.model);
  const load = texts.load(state.active_streams, state.max_streams);
  const parts = [synthesizer, state.device, state.rung, load];
  if (state.replicas > 1) parts.push(texts.replicas(state.replicas_ready, state.replicas));
  const reason = isChinese ? state.restart_reason_zh : state.restart_reason;
  if (state.restarts) parts.push(texts.restarts(state.restarts, reason));
  return parts.join(" · ");
}

async function refreshState() {
  let state = { status: "unreachable" };
  try {
    state = await (await fetch("readyz", { headers: headers() })).json();
  } catch {
    // The server is gone for now: the page says so and asks again.
  }
  $("state").dataset.state = state.status;
  const starting = state.preparing ? texts.preparing(state.preparing) : texts[state.status];
  $("state-text").textContent = state.status === "ready" ? described(state) : starting;
  $("instructions-field").hidden = !state.capabilities?.includes("instruct");
  $("idle").hidden = state.seconds_to_shutdown == null;
  $("idle-text").textContent = texts.switchedOff(Math.ceil(state.seconds_to_shutdown / 60));
  // What bounds the streams is worth a sentence where it is not what the owner has set, the kernels on a card.
  const told = [state];
  if (state.kernels && state.kernels.reason !== "processor") told.push(state.kernels);
  if (state.capacity && state.capacity.bound_by !== "setting") told.push(state.capacity);
  $("why").textContent = told.map((each) => (isChinese ? each.why_zh : each.why) ?? "").join(isChinese ? "" : " ");
}

async function keepOn() {
  const response = await fetch("v1/idle-shutdown", { method: "DELETE", headers: headers() });
  show(response.ok ? null : await problemOf(response));
  await refreshState();
}

async function fillVoices() {
  const response = await fetch("v1/audio/voices", { headers: headers() });
  if (!response.ok) return show(await problemOf(response));
  const chosen = $("voice").value;
  const { voices } = await response.json();
  $("voice").replaceChildren(
    ...voices.map((voice) => new Option(isChinese ? voice.name_zh : voice.name, voice.id)),
  );
  if (chosen) $("voice").value = chosen;
  return show(null);
}

function offer(bytes, format, mediaType) {
  if (downloadUrl) URL.revokeObjectURL(downloadUrl);
  downloadUrl = URL.createObjectURL(new Blob(bytes, { type: mediaType }));
  $("download").href = downloadUrl;
  $("download").download = `speech.${format}`;
  $("download").hidden = false;
}

async function speak() {
  stop();
  show(null);
  const format = $("format").value;
  const request = (running = { abort: new AbortController(), player: new Player(SAMPLE_RATE) });
  reset();
  try {
    await request.player.context.resume();
    await stream(request, format);
    await request.player.finished();
  } catch (error) {
    if (error instanceof TypeError) show(texts.unreachable); // what fetch throws when there is no server
    else if (error.name !== "AbortError") show(error.message);
  } finally {
    request.player.close();
    if (running === request) idle();
  }
}

async function stream({ abort, player }, format) {
  const asked = performance.now();
  const response = await fetch("v1/audio/speech", {
    method: "POST",
    signal: abort.signal,
    headers: headers({ "Content-Type": "application/json" }),
    body: JSON.stringify({
      input: $("text").value,
      voice: $("voice").value,
      speed: Number($("speed").value),
      instructions: $("instructions-field").hidden ? "" : $("instructions").value,
      response_format: format,
    }),
  });
  if (!response.ok) throw new Error(await problemOf(response));

  const decoder = decoderFor(format, player.context);
  const received = [];
  let heard = false;
  const play = (samples) => {
    if (!samples.length) return;
    if (!heard) $("first-audio").textContent = `${Math.round(performance.now() - asked)} ms`;
    heard = true;
    player.queue(samples);
    waveform.add(samples, player.context.sampleRate);
  };
  const arrived = () => {
    if (!decoder.seconds) return;
    $("duration").textContent = `${decoder.seconds.toFixed(1)} s`;
    $("real-time-factor").textContent = ((performance.now() - asked) / 1000 / decoder.seconds).toFixed(3);
  };
  let broken = false;
  try {
    for (const reader = response.body.getReader(); ; ) {
      const { value, done } = await reader.read();
      if (done) break;
      received.push(value);
      decoder.push(value);
      arrived();
      if (isDue(decoder.waiting, player.lead)) play(await decoder.take().catch(() => [])); // too little yet: wait for more
    }
  } catch (error) {
    if (error.name === "AbortError") throw error;
    broken = true;
  }
  if (!received.length) throw new Error(texts.lost);
  offer(received, format, response.headers.get("Content-Type"));
  decoder.end();
  arrived();
  try {
    while (decoder.waiting) {
      await player.until(AHEAD);
      if (player.closed) break;
      play(await decoder.take());
    }
  } catch {
    throw new Error(texts.unplayable);
  }
  if (broken) show(texts.brokenOff);
}

// Whether sound is to be decoded: not a breath at a time, unless silence is near, and not long before it is heard.
function isDue(waiting, lead) {
  return waiting > 0 && (lead < RUNNING_DRY || (waiting > RUNNING_DRY && lead < AHEAD));
}

function stop() {
  if (!running) return;
  running.abort.abort();
  running.player.close();
  idle();
}

function reset() {
  $("speak").hidden = true;
  $("stop").hidden = false;
  $("download").hidden = true;
  for (const id of ["first-audio", "real-time-factor", "duration"]) $(id).textContent = "–";
  waveform.reset();
  requestAnimationFrame(animate);
}

function idle() {
  running = null;
  $("speak").hidden = false;
  $("stop").hidden = true;
}

function animate() {
  waveform.draw(running ? running.player.position : Infinity);
  if (running) requestAnimationFrame(animate);
}

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  speak();
});
$("stop").addEventListener("click", stop);
$("keep-on").addEventListener("click", keepOn);
$("speed").addEventListener("input", () => ($("speed-value").textContent = `${$("speed").value}×`));
$("key").addEventListener("change", () => {
  sessionStorage.setItem("key", $("key").value.trim());
  fillVoices();
  refreshState();
});
window.addEventListener("resize", () => running || waveform.draw(Infinity));

translatePage();
$("known-instructions").replaceChildren(
  ...instructions.map(([words, english, chinese]) => new Option(isChinese ? chinese : english, words)),
);
$("text").value = texts.sample;
fillVoices();
refreshState();
setInterval(refreshState, STATE_EVERY);
