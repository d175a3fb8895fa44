// The form: what is to be spoken and how, kept as a draft from visit to visit.

import { $, element, keep, kept, show } from "./dom.js";
import { instructions } from "./instructions.js";
import { can, isReal, server, state } from "./status.js";
import { isChinese, texts } from "./texts.js";

const FIELDS = ["text", "voice", "instructions", "speed", "format", "seed"];
const SEEDS = 2 ** 31;
const LARGEST_FILE = 4e6; // bytes; no text of a server's length has more
// What the models were trained with, as upstream lists it: a sound, or what stands around words.
const SOUNDS = [
  ["breath", "[breath]"],
  ["laughter", "[laughter]"],
  ["sigh", "[sigh]"],
  ["cough", "[cough]"],
  ["emphasis", "<strong>", "</strong>"],
  ["laughing", "<laughter>", "</laughter>"],
];

export const draft = new EventTarget(); // "change"
let wanted = ""; // the voice that is chosen, whether or not it is in the list yet
let names = new Map(); // voice → its name

const changed = () => {
  save();
  render();
  draft.dispatchEvent(new Event("change"));
};

export const voiceName = (voice) => names.get(voice) ?? (voice || texts.defaultVoice);

// What is on screen, as a take has it.
export function settings() {
  return {
    text: $("text").value,
    voice: $("voice").value || wanted,
    instructions: can("instruct") ? $("instructions").value.trim() : "",
    speed: Number($("speed").value),
    format: $("format").value,
    seed: Math.max(0, Math.floor(Number($("seed").value))) || 0,
  };
}

export function useSettings(given) {
  for (const name of FIELDS) if (given[name] !== undefined) $(name).value = given[name];
  wanted = given.voice ?? wanted;
  $("speed-number").value = $("speed").value;
  changed();
}

export const draw = () => Math.floor(Math.random() * SEEDS);

export function drawSeed() {
  $("seed").value = draw();
  changed();
}

// After an utterance: the next one sounds a little different, unless its seed is kept.
export function nextSeed() {
  if ($("lock").getAttribute("aria-pressed") !== "true") drawSeed();
}

function save() {
  const now = { ...settings(), instructions: $("instructions").value, voice: wanted };
  keep("draft", JSON.stringify({ ...now, locked: $("lock").getAttribute("aria-pressed") === "true" }));
}

function restore() {
  let saved = {};
  try {
    saved = JSON.parse(kept("draft")) ?? {};
  } catch {
    // Nobody's words but the page's stand there; it begins anew.
  }
  $("lock").setAttribute("aria-pressed", String(saved.locked === true));
  useSettings({ text: texts.sample, instructions: "", speed: 1, format: "mp3", seed: draw(), ...saved });
}

export function fillVoices(voices) {
  const nameOf = (voice) => (isChinese ? voice.name_zh : voice.name);
  names = new Map(voices.map((voice) => [voice.id, nameOf(voice)]));
  $("voice").replaceChildren(...voices.map((voice) => new Option(nameOf(voice), voice.id)));
  if (names.has(wanted)) $("voice").value = wanted;
  draft.dispatchEvent(new Event("change"));
}

export function chooseVoice(id) {
  wanted = id;
  $("voice").value = id;
  changed();
}

function render() {
  const count = [...$("text").value].length;
  const most = state.longest_text;
  $("count").textContent = most
    ? texts.characters(count.toLocaleString(), most.toLocaleString())
    : texts.charactersOnly(count.toLocaleString());
  $("count").classList.toggle("over", Boolean(most) && count > most);
  $("instructions-field").hidden = !can("instruct");
  $("sounds").hidden = !isReal();
  for (const chip of $("examples").children)
    chip.setAttribute("aria-pressed", String(chip.value === $("instructions").value));
}

function renderChips() {
  $("examples").replaceChildren(
    ...instructions.map(([words, english, chinese]) =>
      element("button", { type: "button", value: words, onclick: () => instruct(words) }, isChinese ? chinese : english),
    ),
  );
  $("sounds").replaceChildren(
    ...SOUNDS.map(([name, before, after]) =>
      element("button", { type: "button", onclick: () => insert(before, after) }, texts.soundNames[name]),
    ),
  );
  render();
}

function instruct(words) {
  $("instructions").value = $("instructions").value === words ? "" : words;
  changed();
}

function insert(before, after = "") {
  const field = $("text");
  const { selectionStart: start, selectionEnd: end } = field;
  const within = after ? field.value.slice(start, end) : "";
  field.setRangeText(before + within + after, after ? start : end, end, "end");
  if (after && !within) field.selectionStart = field.selectionEnd = start + before.length;
  field.focus();
  changed();
}

async function takeFile(event) {
  const [file] = event.dataTransfer.files;
  if (!file) return;
  event.preventDefault();
  const text = file.size > LARGEST_FILE ? null : await decoded(file);
  show("error", text === null ? texts.notText : null);
  if (text === null) return;
  $("text").value = text;
  changed();
}

// The text of a file, in UTF-8 or as Chinese systems write it; null where it is none.
async function decoded(file) {
  const bytes = await file.arrayBuffer();
  for (const encoding of ["utf-8", "gb18030"]) {
    try {
      const text = new TextDecoder(encoding, { fatal: true }).decode(bytes);
      return text.includes("\0") ? null : text;
    } catch {
      // Not that one.
    }
  }
  return null;
}

function pairSpeed(from, to) {
  $(from).addEventListener("input", () => {
    if ($(from).validity.valid && $(from).value) $(to).value = $(from).value;
    changed();
  });
  $(from).addEventListener("change", () => ($(from).value = $(to).value)); // what is no speed becomes the last one again
}

export function startDraft() {
  restore();
  renderChips();
  window.addEventListener("pageshow", restore); // a browser fills in what it remembers, which may be older
  for (const name of ["text", "instructions", "format", "seed"]) $(name).addEventListener("input", changed);
  $("voice").addEventListener("input", () => chooseVoice($("voice").value));
  pairSpeed("speed", "speed-number");
  pairSpeed("speed-number", "speed");
  $("dice").addEventListener("click", drawSeed);
  $("lock").addEventListener("click", () => {
    $("lock").setAttribute("aria-pressed", String($("lock").getAttribute("aria-pressed") !== "true"));
    changed();
  });
  $("text").addEventListener("drop", takeFile);
  server.addEventListener("state", render);
  server.addEventListener("kind", () => draft.dispatchEvent(new Event("change")));
  document.addEventListener("translated", renderChips);
}
