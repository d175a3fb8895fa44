// The page: one button that speaks and stops, and the parts around it.

import { draw, nextSeed, settings, startDraft } from "./draft.js";
import { $, keep, kept, say, show } from "./dom.js";
import { listenTo, player, showFigures, startListening } from "./listening.js";
import { startCode } from "./code.js";
import { Problem, UNREACHABLE } from "./server.js";
import { look, server, startStatus, state } from "./status.js";
import { Take } from "./take.js";
import { asSettings, keepNow, startTakes } from "./takes.js";
import { languageOf, speakLanguage, texts } from "./texts.js";
import { uttering } from "./uttering.js";
import { loadVoices, startVoices } from "./voices.js";

const DOUBLE = 400; // ms within which a second click is the same click

let working = null; // the AbortController of what is being spoken
let pressed = -Infinity;
let passing = false; // whether what went wrong is over once the server is back

function showError(error) {
  show("error", error?.message);
  passing = error instanceof Problem && (error.isBusy || [UNREACHABLE, "CS-SRV-001", "CS-SRV-002"].includes(error.code));
}

function renderButton() {
  $("speak").textContent = working || player.playing ? texts.stop : texts.speak;
  $("speak").classList.toggle("stopping", Boolean(working || player.playing));
}

function press(event) {
  event?.preventDefault();
  const now = performance.now();
  if (now - pressed < DOUBLE) return;
  pressed = now;
  if (working || player.playing) stop();
  else speak([settings().seed]);
}

function stop() {
  if (working) say(texts.stopped);
  working?.abort();
  player.pause();
}

// One take for each seed, one after the other; the first is heard while it arrives.
async function speak(seeds) {
  showError(null);
  const mine = (working = new AbortController());
  renderButton();
  const unlocking = player.unlock(); // while the click still counts
  try {
    for (const [index, seed] of seeds.entries()) await speakOne({ ...asSettings(settings()), seed }, index === 0, mine.signal);
    nextSeed();
  } catch (error) {
    if (error.name !== "AbortError") fail(error);
  } finally {
    await unlocking;
    if (working === mine) working = null;
    showWaiting(0);
    renderButton();
  }
}

function fail(error) {
  showError(error instanceof Problem ? error : new Problem("page", String(error.message ?? error)));
  if (error.code === "CS-VOICE-001") loadVoices();
  if ([UNREACHABLE, "CS-AUTH-001"].includes(error.code)) look();
}

async function speakOne(asked, heard, signal) {
  const take = new Take(asked);
  const done = uttering(take, signal, showWaiting);
  if (heard) take.addEventListener("news", () => begin(take), { once: true });
  take.addEventListener("news", () => showFigures(take));
  try {
    await done;
  } finally {
    if (take.arrived) await keepNow(take);
    else take.close();
  }
}

function begin(take) {
  listenTo(take);
  say(texts.speaking);
  player.play();
}

let waited = false;

// A full server: said once, and shown each second.
function showWaiting(seconds) {
  show("waiting", seconds ? texts.busy(seconds) : null);
  $("cancel").hidden = !seconds;
  if (seconds && !waited) say(texts.busy(seconds));
  waited = Boolean(seconds);
}

function byKey(event) {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && event.target.closest("#form")) press(event);
  if (event.key === "Escape" && !$("voices-dialog").open && (working || player.playing)) stop();
}

function startLanguage() {
  const chosen = kept("language") ?? languageOf(navigator.language);
  for (const button of document.querySelectorAll("[data-language]"))
    button.addEventListener("click", () => {
      keep("language", button.dataset.language);
      speakLanguage(button.dataset.language);
    });
  speakLanguage(chosen);
}

$("unscripted").remove();
startLanguage();
startDraft();
startListening();
startTakes();
startCode();
startVoices();
startStatus();

$("form").addEventListener("submit", press);
$("cancel").addEventListener("click", () => {
  stop();
  $("speak").focus();
});
$("three").addEventListener("click", () => working || speak([draw(), draw(), draw()]));
document.addEventListener("keydown", byKey);
document.addEventListener("translated", renderButton);
player.addEventListener("change", renderButton);
server.addEventListener("kind", () => passing && state.status === "ready" && showError(null));
