// What the server says of itself: one line for everybody, the rest under "Details". Who listens to the page hears of it when
// its kind changes, not of every number.

import { $, element, say, show } from "./dom.js";
import { ask, askState, hasKey, setKey, UNREACHABLE } from "./server.js";
import { isChinese, texts } from "./texts.js";

const EVERY = 5000; // ms
const MODELS = { "cosyvoice2-0.5b": "CosyVoice2", "cosyvoice3-0.5b": "CosyVoice3" }; // as people call them

export let state = { status: "unknown" };

// Events: "state" at every look, "kind" when its kind or what speaks has changed.
export const server = new EventTarget();

const tell = (what) => server.dispatchEvent(new Event(what));
const lacksKey = () => state.needs_key && !state.synthesizer;

export const can = (capability) => Boolean(state.capabilities?.includes(capability));
export const isReal = () => Boolean(state.synthesizer) && state.synthesizer !== "preview";

function kindOf({ status, synthesizer, model, start, restarts, needs_key: needsKey }) {
  return [status, synthesizer, model, start, restarts, needsKey].join("|");
}

function spoken() {
  if (state.status !== "ready") return state.preparing ? texts.preparing(state.preparing) : (texts[state.status] ?? state.status);
  if (!state.synthesizer) return texts.ready;
  const name = MODELS[state.model] ?? (state.synthesizer === "preview" ? texts.preview : state.model);
  return `${texts.ready} · ${name}`;
}

function facts() {
  if (!state.synthesizer) return [];
  const load = [texts.loadOf(state.active_streams, state.max_streams)];
  if (state.waiting) load.push(texts.waitingTexts(state.waiting));
  const reason = isChinese ? state.restart_reason_zh : state.restart_reason;
  return [
    [texts.device, state.device],
    [texts.launchMethod, state.rung],
    [texts.load, load.join(" · ")],
    ...(state.replicas > 1 ? [[texts.replicas, texts.replicasOf(state.replicas_ready, state.replicas)]] : []),
    ...(state.restarts ? [[texts.restarts, texts.restartsOf(state.restarts, reason)]] : []),
  ];
}

// Why it speaks as it does. What bounds the streams is worth a sentence where it is not what the owner has set, and the kernels
// on a card.
function why() {
  const told = [state];
  if (state.kernels && state.kernels.reason !== "processor") told.push(state.kernels);
  if (state.capacity && state.capacity.bound_by !== "setting") told.push(state.capacity);
  const words = told.map((each) => (isChinese ? each.why_zh : each.why) ?? "");
  return words.join(isChinese ? "" : " ").replaceAll("`", "");
}

function render() {
  $("state").dataset.state = state.status;
  if ($("state-text").textContent !== spoken()) $("state-text").textContent = spoken();
  $("facts").replaceChildren(
    ...facts().map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value))),
  );
  $("why").textContent = why();
  $("details").hidden = !state.synthesizer;
  $("idle").hidden = state.seconds_to_shutdown == null;
  $("idle-text").textContent = texts.switchedOff(Math.ceil(state.seconds_to_shutdown / 60));
  askForKey();
}

function askForKey() {
  const shown = !$("key-form").hidden;
  $("key-form").hidden = !lacksKey();
  if (lacksKey() && !shown) {
    refuseKey(hasKey());
    $("key").focus();
  }
}

function refuseKey(refused) {
  $("key-error").textContent = refused ? texts.keyWrong : "";
  $("key").setAttribute("aria-invalid", String(refused));
}

export async function look() {
  const before = kindOf(state);
  const first = state.status === "unknown";
  const found = await askState();
  // A server that is gone for a moment is still what it was, but for its status.
  state = found.status === UNREACHABLE ? { ...state, status: UNREACHABLE } : found;
  render();
  tell("state");
  if (kindOf(state) === before) return;
  if (!first) say(spoken());
  tell("kind");
}

async function keepOn() {
  const failure = await ask("v1/idle-shutdown", { method: "DELETE" }).then(() => null, (error) => error.message);
  if (failure) show("error", failure);
  await look();
}

async function useKey(event) {
  event.preventDefault();
  setKey($("key").value.trim(), $("remember").checked);
  refuseKey(false);
  await look();
  if (lacksKey()) {
    refuseKey(true);
    $("key").focus();
    return;
  }
  $("key").value = "";
  $("text").focus();
}

export function startStatus() {
  $("keep-on").addEventListener("click", keepOn);
  $("key-form").addEventListener("submit", useKey);
  document.addEventListener("translated", render);
  document.addEventListener("visibilitychange", () => document.hidden || look());
  setInterval(() => document.hidden || look(), EVERY);
  return look();
}
