// Takes apart what arrives, away from the page, which goes on answering meanwhile. Each message is {id, speech, call, given};
// its answer has the same id.

import { Speech } from "./speech.js";

const speeches = new Map();

const calls = {
  open: (speech, format) => void speeches.set(speech, new Speech(format)),
  close: (speech) => void speeches.delete(speech),
};

self.addEventListener("message", ({ data: { id, speech, call, given } }) => {
  try {
    const answer = calls[call] ? calls[call](speech, ...given) : speeches.get(speech)?.[call](...given);
    const heavy = [answer?.samples, answer?.encoded, answer instanceof Uint8Array && answer].filter(Boolean);
    self.postMessage({ id, answer }, [...new Set(heavy.map((each) => each.buffer))]);
  } catch (error) {
    self.postMessage({ id, failure: String(error) });
  }
});
