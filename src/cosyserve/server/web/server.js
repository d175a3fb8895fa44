// Asks the server. Every address is relative, so that the page works under any path a proxy puts it at.

import { keep, kept } from "./dom.js";
import { isChinese, texts } from "./texts.js";

const BUSY = ["CS-BUSY-001", "CS-BUSY-002", "CS-BUSY-003", "CS-BUSY-004"];
const FOR_PEOPLE = ["CS-VOICE-1", "CS-VOICE-002", "CS-QUOTA"]; // whose remedy says what to record, to write or to wait for
export const UNREACHABLE = "unreachable";

let key = null; // of this tab

export function setKey(value, remember) {
  key = value;
  keep("key", remember ? value : null);
}

export const hasKey = () => Boolean(key ?? kept("key"));

// A header's text is bytes. The server reads those of UTF-8, so that a key may have any letters.
function headers() {
  const given = key ?? kept("key");
  if (!given) return {};
  return { Authorization: `Bearer ${String.fromCharCode(...new TextEncoder().encode(given))}` };
}

// A refusal, in words for whoever uses the page.
export class Problem extends Error {
  constructor(code, message, { param = null, wait = 0 } = {}) {
    super(message);
    Object.assign(this, { code, param, wait });
  }

  get isBusy() {
    return BUSY.includes(this.code);
  }
}

// Words of the page for what happens to people; the server's own say what a program has to send.
function plainly(error, limit) {
  if (BUSY.includes(error.code)) return texts.busyNow;
  return {
    "CS-AUTH-001": texts.keyNeeded,
    "CS-TEXT-001": texts.textEmpty,
    "CS-TEXT-002": limit && texts.textLong(limit),
    "CS-VOICE-001": texts.voiceGone,
    "CS-VOICE-005": texts.consentMissing,
    "CS-SRV-001": texts.startingYet,
    "CS-SRV-002": texts.stoppingNow,
    "CS-SRV-003": texts.failedText,
  }[error.code];
}

function wordsOf(error) {
  const limit = error.message.match(/takes (\d+) at a time/)?.[1];
  const plain = plainly(error, limit);
  if (plain) return plain;
  const cause = isChinese ? error.message_zh : error.message.replace(error.remedy, "").trim();
  const forPeople = FOR_PEOPLE.some((each) => error.code.startsWith(each));
  const remedy = isChinese ? error.remedy_zh : error.remedy;
  return (forPeople ? [cause, remedy] : [cause]).join(isChinese ? "" : " ").replaceAll("`", "");
}

export function problemIn(body, status, wait) {
  const { error } = body ?? {};
  if (!error) return new Problem(`HTTP ${status}`, `${texts.unreachable} (HTTP ${status})`);
  return new Problem(error.code, `${wordsOf(error)} (${error.code})`, { param: error.param, wait });
}

// A response that is a success; raises `Problem`, or AbortError where `signal` says so.
export async function ask(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { ...options, headers: { ...headers(), ...options.headers } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(UNREACHABLE, texts.unreachable);
  }
  if (response.ok) return response;
  const wait = Number(response.headers.get("Retry-After")) || 0;
  throw problemIn(await response.json().catch(() => null), response.status, wait);
}

// The server's state; `{status: "unreachable"}` where it doesn't answer.
export async function askState() {
  try {
    const state = await (await fetch("readyz", { headers: headers() })).json();
    if (state.status) return state; // else something between here and there has answered
  } catch {
    // It is gone for now.
  }
  return { status: UNREACHABLE };
}

export async function askVoices() {
  return (await (await ask("v1/audio/voices")).json()).voices;
}

// What asks for an utterance: the same for the page and for the code that it shows.
export function bodyOf({ text, voice, instructions, speed, format, seed }) {
  return {
    input: text,
    voice,
    ...(instructions ? { instructions } : {}),
    response_format: format,
    ...(speed === 1 ? {} : { speed }),
    seed,
  };
}

export function post(path, body, signal, extra = {}) {
  return ask(path, {
    method: "POST",
    signal,
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ ...body, ...extra }),
  });
}
