// The voices: a dialog at #voices, so that Back closes it. What is there, and how one is added.

import { chooseVoice, fillVoices } from "./draft.js";
import { $, element, say, show } from "./dom.js";
import { player } from "./listening.js";
import { canRecord, record } from "./recorder.js";
import { ask, askVoices, bodyOf, post } from "./server.js";
import { can, server, state } from "./status.js";
import { isChinese, texts } from "./texts.js";

const AGAIN = 30_000; // ms after which the list may have changed elsewhere
const TO_READ = "今天天气很好，我们一起去公园散步吧。 The quick brown fox jumps over the lazy dog.";
// Which field a refusal by the server concerns.
const FIELDS = {
  name: "name", transcript: "transcript", ref_text: "transcript", prompt_text: "transcript", consent: "consent",
  audio: "audio", audio_sample: "audio", prompt_wav: "audio",
}; // prettier-ignore
const INPUTS = { name: "voice-name", transcript: "transcript", consent: "consent", audio: "upload" };

let voices = [];
let loadedAt = 0;
let recording = null; // {stop, done} while it runs
let sound = null; // the Blob of the new voice
let opened = false; // by the page itself, so that Back leads to it
let followed = 0; // closes by the address whose events are still to come, when it may be another one again
const sample = new Audio();

const nameOf = (voice) => (isChinese ? voice.name_zh : voice.name);

export async function loadVoices() {
  try {
    voices = await askVoices();
    loadedAt = performance.now();
    if ($("error").dataset.of === "voices") refuse(null);
  } catch (error) {
    loadedAt = 0;
    // Where there is a list, or the panel asks for a key, there is nothing more to be said.
    if (!voices.length && error.code !== "CS-AUTH-001") refuse(texts.noVoices);
    return;
  }
  fillVoices(voices);
  render();
}

function refuse(words) {
  show("error", words);
  $("error").dataset.of = words ? "voices" : "";
}

// Whether the list may be out of date: it wasn't there, what speaks has changed, or it is old.
function freshen() {
  const age = performance.now() - loadedAt;
  if (state.synthesizer && (!loadedAt || age > AGAIN)) loadVoices();
}

export async function hear(voice) {
  player.pause();
  const now = { text: texts.voiceSample, voice, speed: 1, format: "mp3", seed: 1 };
  try {
    const response = await post("v1/audio/speech", bodyOf(now));
    play(sample, await response.blob());
    return null;
  } catch (error) {
    if (error.code === "CS-VOICE-001") loadVoices();
    return error.message;
  }
}

// Where the browser wants another click for it, there is nothing to be said: the control is there.
function play(audio, blob) {
  if (audio.src) URL.revokeObjectURL(audio.src);
  audio.src = URL.createObjectURL(blob);
  audio.play().catch(() => {});
}

async function remove(voice) {
  if (!confirm(texts.deleteVoiceSure(nameOf(voice)))) return;
  const failure = await ask(`v1/audio/voices/${encodeURIComponent(voice.id)}`, { method: "DELETE" }).then(
    () => null,
    (error) => error.message,
  );
  show("voices-error", failure);
  if (!failure) say(texts.deleted(nameOf(voice)));
  await loadVoices();
  $("close-voices").focus();
}

function row(voice) {
  const name = nameOf(voice);
  const button = (label, words, onclick) =>
    element("button", { type: "button", class: "small", "aria-label": label, onclick }, words);
  const about = [voice.languages.map((language) => texts.languages[language] ?? language).join(", ")];
  if (!voice.deletable) about.push(texts.comesWith);
  else if (!voice.has_transcript) about.push(texts.withoutWords);
  const listen = async () => show("voices-error", await hear(voice.id));
  return element(
    "li",
    { class: "voice" },
    element("b", {}, name),
    element("p", { class: "soft" }, about.join(" · ")),
    element(
      "div",
      { class: "row tight" },
      button(texts.hearVoice(name), texts.hearShort, listen),
      voice.deletable ? button(texts.deleteVoice(name), texts.deleteShort, () => remove(voice)) : "",
    ),
  );
}

function render() {
  $("voice-list").replaceChildren(...voices.map(row));
  $("voice-form").hidden = !can("clone");
  show("no-cloning", state.synthesizer && !can("clone") ? texts.noCloning : null);
  $("no-recording").hidden = canRecord();
  $("recording").hidden = !canRecord();
  $("to-read").textContent = TO_READ;
  $("record").textContent = recording ? texts.stopRecording : sound ? texts.recordAgain : texts.record;
}

async function toggleRecording() {
  if (recording) return recording.stop();
  refuseField("audio", null);
  try {
    recording = await record((level, seconds) => {
      $("level").value = level;
      showLength(seconds);
    });
  } catch {
    return refuseField("audio", texts.microphoneRefused);
  }
  render();
  const blob = await recording.done;
  recording = null;
  $("level").value = 0;
  $("upload").value = "";
  if (!$("transcript").value) $("transcript").value = TO_READ;
  return setSound(blob);
}

function showLength(seconds) {
  $("length").value = seconds;
  $("length-text").textContent = texts.lengthOf(Math.round(seconds));
}

function setSound(blob) {
  sound = blob;
  $("recorded").hidden = !blob;
  if (blob) {
    if ($("listen").src) URL.revokeObjectURL($("listen").src);
    $("listen").src = URL.createObjectURL(blob);
  }
  $("tried").hidden = true;
  refuseField("audio", null);
  render();
}

// What is wrong with a field stands at it.
function refuseField(field, words) {
  $(`${field}-error`).textContent = words ?? "";
  $(INPUTS[field]).setAttribute("aria-invalid", String(Boolean(words)));
  if (words) (field === "audio" && canRecord() ? $("record") : $(INPUTS[field])).focus();
}

function clearRefusals() {
  for (const field of Object.keys(INPUTS)) refuseField(field, null);
  show("voices-error", null);
}

function refuseBy(error) {
  const field = error.code?.startsWith("CS-VOICE-1") ? "audio" : FIELDS[error.param];
  if (field) refuseField(field, error.message);
  else show("voices-error", error.message);
}

// The first field that lacks something is told of; whether none does.
function isComplete(fields) {
  clearRefusals();
  const missing = {
    audio: !sound && texts.recordingMissing,
    name: !$("voice-name").value.trim() && texts.nameMissing,
    consent:
      (!$("consent").value.trim() && texts.consentMissing) || ($("consent").value.includes("NAME") && texts.nameInConsent),
  };
  const found = fields.find((field) => missing[field]);
  if (found) refuseField(found, missing[found]);
  return !found;
}

// Speaks in the voice of the recording, which the server does not keep.
async function tryIt() {
  if (!isComplete(["audio"])) return;
  const words = $("transcript").value.trim();
  const form = new FormData();
  form.append("tts_text", texts.voiceSample);
  if (words) form.append("prompt_text", words);
  form.append("prompt_wav", sound, "recording");
  await working(texts.trying, async () => {
    const path = words ? "inference_zero_shot" : "inference_cross_lingual";
    const samples = await (await ask(path, { method: "POST", body: form })).arrayBuffer();
    $("tried").hidden = false;
    play($("tried"), waveFile(samples));
  });
}

async function keepIt(event) {
  event.preventDefault();
  if (!isComplete(["audio", "name", "consent"])) return;
  const form = new FormData();
  form.append("name", $("voice-name").value.trim());
  form.append("transcript", $("transcript").value.trim());
  form.append("consent", $("consent").value.trim());
  form.append("audio", sound, "recording");
  await working(texts.keeping, async () => {
    const voice = await (await ask("v1/audio/voices", { method: "POST", body: form })).json();
    for (const id of ["voice-name", "transcript", "consent", "upload"]) $(id).value = "";
    showLength(0);
    setSound(null);
    await loadVoices();
    chooseVoice(voice.id);
    say(texts.kept(nameOf(voice)));
    $("voice-progress").textContent = texts.kept(nameOf(voice));
  });
}

const isWorking = () => $("keep").hasAttribute("aria-disabled");

async function working(words, work) {
  $("voice-progress").textContent = words;
  say(words);
  for (const id of ["try", "keep"]) $(id).setAttribute("aria-disabled", "true");
  try {
    await work();
    if ($("voice-progress").textContent === words) $("voice-progress").textContent = "";
  } catch (error) {
    $("voice-progress").textContent = "";
    refuseBy(error);
  } finally {
    for (const id of ["try", "keep"]) $(id).removeAttribute("aria-disabled");
  }
}

// 16-bit samples at 24 kHz, as a file that any browser plays.
function waveFile(samples) {
  const header = new DataView(new ArrayBuffer(44));
  const word = (at, letters) => [...letters].forEach((letter, i) => header.setUint8(at + i, letter.charCodeAt(0)));
  word(0, "RIFF");
  header.setUint32(4, 36 + samples.byteLength, true);
  word(8, "WAVEfmt ");
  [16, 0x10001, 24000, 48000, 0x100002].forEach((value, i) => header.setUint32(16 + 4 * i, value, true));
  word(36, "data");
  header.setUint32(40, samples.byteLength, true);
  return new Blob([header, samples], { type: "audio/wav" });
}

function consentTo(words) {
  $("consent").value = words(new Date().toISOString().slice(0, 10));
  refuseField("consent", null);
  $("consent").focus();
}

function follow() {
  const wanted = location.hash === "#voices";
  const dialog = $("voices-dialog");
  if (wanted && !dialog.open) {
    dialog.showModal();
    freshen();
    render();
  } else if (!wanted && dialog.open) {
    followed += 1;
    dialog.close();
  }
}

// However it was closed, the address says so.
function closed() {
  recording?.stop();
  for (const audio of [sample, $("listen"), $("tried")]) audio.pause();
  if (followed) {
    followed -= 1;
    return;
  }
  if (location.hash !== "#voices") return;
  if (opened) history.back();
  else history.replaceState(null, "", location.pathname + location.search);
  opened = false;
}

export function startVoices() {
  $("hear").addEventListener("click", async () => show("error", await hear($("voice").value)));
  $("open-voices").addEventListener("click", () => (opened = true));
  $("close-voices").addEventListener("click", () => $("voices-dialog").close());
  $("voices-dialog").addEventListener("close", closed);
  $("record").addEventListener("click", toggleRecording);
  $("upload").addEventListener("change", () => {
    showLength(0);
    $("length-text").textContent = "";
    setSound($("upload").files[0] ?? null);
  });
  $("try").addEventListener("click", () => isWorking() || tryIt());
  $("voice-form").addEventListener("submit", (event) => (isWorking() ? event.preventDefault() : keepIt(event)));
  $("consent-mine").addEventListener("click", () => consentTo(texts.consentMineText));
  $("consent-other").addEventListener("click", () => consentTo(texts.consentOtherText));
  window.addEventListener("hashchange", follow);
  document.addEventListener("translated", () => {
    fillVoices(voices);
    render();
  });
  document.addEventListener("visibilitychange", () => document.hidden || loadVoices());
  server.addEventListener("kind", () => state.synthesizer && loadVoices());
  server.addEventListener("state", freshen);
  follow();
}
