// The takes that are kept: a row each, and two of them side by side.

import { voiceName, useSettings } from "./draft.js";
import { $, clock, element } from "./dom.js";
import { downloadTake, listenTo, player } from "./listening.js";
import { allTakes, changeTake, isLasting, keepTake, MOST_BYTES, removeTakes, soundOf } from "./store.js";
import { samePlace, Take } from "./take.js";
import { texts } from "./texts.js";

let records = []; // the newest first
const loaded = new Map(); // id → the Take whose sound is with the worker
let compared = []; // ids of A and B

const nameOf = ({ settings, seconds, created }) =>
  `${texts.takeOf(settings.voiceName, clock(seconds))}, ${new Date(created).toLocaleTimeString()}`;

// Keeps what has come of a take.
export async function keepNow(take) {
  const sound = await take.file();
  const { id, settings, created, captions, complete, seconds, figures } = take;
  const record = { id, settings, created, captions, complete, seconds, figures, starred: false, bytes: sound.size };
  hold(take);
  for (const gone of await keepTake(record, sound)) forget(gone);
  await refresh();
}

// Only the take that is played has its sound in memory, and those that are compared.
function hold(take) {
  loaded.set(take.id, take);
  for (const [id, other] of loaded) {
    if (other === take || other === player.take || compared.includes(id)) continue;
    forget(id);
  }
}

function forget(id) {
  if (loaded.get(id) !== player.take) loaded.get(id)?.close();
  loaded.delete(id);
}

async function takeOf(record) {
  if (loaded.has(record.id)) return loaded.get(record.id);
  const take = new Take(record.settings, record.id);
  const { created, captions, complete, figures } = record;
  const sound = await soundOf(record.id);
  if (!sound) await refresh(); // another tab has deleted it
  await take.restore(new Uint8Array((await sound?.arrayBuffer()) ?? 0));
  Object.assign(take, { created, captions, complete, figures });
  hold(take);
  return take;
}

async function play(record, from = 0) {
  const unlocking = player.unlock(); // while the click still counts
  const take = await takeOf(record);
  if (player.take !== take) listenTo(take);
  player.seek(from); // at once, or for a moment it would be shown at its beginning
  await unlocking;
  await player.play();
}

// Plays one of the two from the sentence at which the other one is.
async function playCompared(index) {
  const record = records.find(({ id }) => id === compared[index]);
  const now = player.take;
  const from = now && compared.includes(now.id) ? samePlace(now, player.position, record) : 0;
  await play(record, now?.id === record.id ? player.position : from);
}

function compare(id, ticked) {
  compared = compared.filter((each) => each !== id);
  if (ticked) compared = [...compared, id].slice(-2);
  render();
}

async function star(record) {
  record.starred = !record.starred;
  await changeTake(record);
  render();
}

async function remove(ids) {
  const at = records.findIndex(({ id }) => id === ids[0]);
  compared = compared.filter((id) => !ids.includes(id));
  if (ids.includes(player.take?.id)) listenTo(null);
  ids.forEach(forget);
  await removeTakes(ids);
  await refresh();
  // The row that had the focus is gone: the next one has it, or the heading.
  ($("take-list").children[Math.min(at, records.length - 1)]?.querySelector("button") ?? $("takes-title")).focus();
}

async function refresh() {
  records = await allTakes();
  render();
}

function row(record) {
  const { id, settings, seconds, starred, complete } = record;
  const name = nameOf(record);
  const button = (label, words, onclick, more = {}) =>
    element("button", { type: "button", class: "small", "aria-label": label, title: label, onclick, ...more }, words);
  const mark = ["A", "B"][compared.indexOf(id)];
  const about = [settings.voiceName, clock(seconds), texts.seedOf(settings.seed), settings.instructions];
  if (!complete) about.push(texts.incomplete);
  const tick = element("input", {
    type: "checkbox",
    "aria-label": texts.compareTake(name),
    onchange: (event) => compare(id, event.target.checked),
  });
  tick.checked = Boolean(mark);
  return element(
    "li",
    { class: player.take?.id === id ? "current" : "", "data-take": id },
    element("div", { class: "row tight" }, tick, mark ? element("b", {}, mark) : "", element("span", { class: "words" }, settings.text)),
    element("p", { class: "soft" }, about.filter(Boolean).join(" · ")),
    element(
      "div",
      { class: "row tight" },
      button(texts.playTake(name), "▶", () => play(record)),
      button(texts.starTake(name), starred ? "★" : "☆", () => star(record), { "aria-pressed": String(starred) }),
      button(texts.downloadTake(name), "⤓", async () => downloadTake(await takeOf(record))),
      button(texts.deleteTake(name), "✕", () => remove([id])),
      element("button", { type: "button", class: "small", "aria-label": texts.useTake(name), onclick: () => useSettings(settings) }, texts.use),
    ),
  );
}

async function render() {
  const focused = document.activeElement?.closest("[data-take]")?.dataset.take;
  const label = document.activeElement?.getAttribute("aria-label");
  $("take-list").replaceChildren(...records.map(row));
  if (focused) {
    const item = $("take-list").querySelector(`[data-take="${CSS.escape(focused)}"]`);
    [...(item?.querySelectorAll("[aria-label]") ?? [])].find((each) => each.getAttribute("aria-label") === label)?.focus();
  }
  $("compare").hidden = compared.length < 2;
  $("delete-takes").hidden = !records.length;
  const size = records.reduce((sum, { bytes }) => sum + bytes, 0) / 1e6;
  const lasting = await isLasting();
  $("takes-size").textContent = lasting ? texts.sizeOf(size.toFixed(2), MOST_BYTES / 1e6) : texts.notKept;
}

export function asSettings(settings) {
  return { ...settings, voiceName: voiceName(settings.voice) };
}

export function startTakes() {
  $("play-a").addEventListener("click", () => playCompared(0));
  $("play-b").addEventListener("click", () => playCompared(1));
  $("delete-takes").addEventListener("click", () => {
    if (confirm(texts.deleteAllSure(records.length))) remove(records.map(({ id }) => id));
  });
  player.addEventListener("change", () => {
    for (const item of $("take-list").children) item.classList.toggle("current", item.dataset.take === player.take?.id);
  });
  document.addEventListener("translated", render);
  document.addEventListener("visibilitychange", () => document.hidden || refresh()); // another tab may have changed them
  return refresh();
}
