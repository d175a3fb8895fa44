// The player as it is seen: the slider, the clock, the sentences that are said, the downloads.

import { RATE } from "./decoders.js";
import { $, clock, download, element, reducedMotion, say, show } from "./dom.js";
import { Player } from "./player.js";
import { captionAt, subRip } from "./take.js";
import { texts } from "./texts.js";
import { draw, note } from "./waveform.js";

const KEY_STEP = 5; // seconds that an arrow key moves, where there are so many

export const player = new Player();
let current = -1; // the caption that is spoken
let drawing = null; // the frame that is asked for
let dragged = false;

export function listenTo(take) {
  player.take?.removeEventListener("news", render);
  player.load(take);
  take?.addEventListener("news", render);
  $("captions").replaceChildren();
  current = -1;
  $("player").hidden = !take;
  show("figures", take?.figures);
  render();
}

export function showFigures(take) {
  if (player.take === take) show("figures", take.figures);
}

function render() {
  const { take } = player;
  if (!take) return;
  renderCaptions(take);
  renderControls();
  renderTime();
}

function renderControls() {
  const { take } = player;
  $("play").textContent = player.playing ? texts.pause : texts.play;
  $("download").disabled = !take?.arrived;
  $("captions-file").hidden = !take?.captions.length;
  show("notice", notice());
}

function notice() {
  if (player.blocked) return { click: texts.blocked, silent: texts.silent, unplayable: texts.unplayable }[player.blocked];
  return player.collecting && player.dryRuns ? texts.slow : null;
}

function renderCaptions(take) {
  const list = $("captions");
  const spoken = take.captions.length ? take.captions : [{ text: take.settings.text, begin: 0 }];
  if (list.children.length === spoken.length && list.textContent === spoken.map(({ text }) => text).join("")) return;
  const same = list.children.length <= spoken.length && [...list.children].every((item, i) => item.textContent === spoken[i].text);
  if (!same) {
    list.replaceChildren();
    current = -1;
  }
  for (const { text } of spoken.slice(list.children.length)) {
    const at = list.children.length;
    list.append(element("li", {}, element("button", { type: "button", onclick: () => jump(at) }, text)));
  }
}

function jump(index) {
  player.seek(player.take.captions[index]?.begin ?? 0);
  if (!player.playing) player.play();
}

function renderTime() {
  const { take, position } = player;
  if (!take) return;
  const at = Math.min(position, take.seconds);
  const slider = $("seek");
  slider.max = take.seconds.toFixed(1);
  slider.step = Math.max(0.1, Number((take.seconds / 200).toFixed(1)));
  if (!dragged) slider.value = at;
  slider.setAttribute("aria-valuetext", texts.timeOf(clock(at), clock(take.seconds)));
  $("clock").textContent = `${clock(at)} / ${clock(take.seconds)}`;
  mark(take, at);
  if (!drawing && !reducedMotion() && player.playing) drawing = requestAnimationFrame(animate);
  if (!drawing) paint();
}

function mark(take, at) {
  const found = take.captions.length ? captionAt(take.captions, at) : 0;
  if (found === current) return;
  const buttons = $("captions").querySelectorAll("button");
  buttons[current]?.removeAttribute("aria-current");
  buttons[found]?.setAttribute("aria-current", "true");
  current = found;
  const list = $("captions");
  const button = buttons[found];
  if (button) list.scrollTop = button.offsetTop - list.offsetTop - list.clientHeight / 3; // only the list, not the page
}

const paint = () => player.take && draw($("waveform"), player.take.peaks, player.position, player.take.seconds);

function animate() {
  drawing = null;
  paint();
  if (player.playing && !reducedMotion()) drawing = requestAnimationFrame(animate);
}

function toggle() {
  if (player.playing) player.pause();
  else player.play();
}

// An arrow moves by seconds, as in other players, where a step of the slider is a fraction of one.
function moveByKey(event) {
  const direction = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1 }[event.key];
  if (!direction || player.take.seconds < 2 * KEY_STEP) return;
  event.preventDefault();
  player.seek(Math.max(0, Math.min(player.take.seconds, player.position + direction * KEY_STEP)));
}

const fileName = (take, ending) => `${take.settings.voice || "speech"}-${take.settings.seed}.${ending}`;

export async function downloadTake(take) {
  download(await take.file(), fileName(take, take.settings.format));
}

let saidSlow = null; // the take of which it was said

function changed() {
  renderControls();
  if (player.collecting && player.dryRuns && saidSlow !== player.take) {
    saidSlow = player.take;
    say(texts.slow);
  }
  if (player.blocked) say(notice());
}

export function startListening() {
  $("play").addEventListener("click", toggle);
  $("seek").addEventListener("input", () => player.seek(Number($("seek").value)));
  $("seek").addEventListener("keydown", moveByKey);
  $("seek").addEventListener("pointerdown", () => (dragged = true));
  for (const end of ["pointerup", "pointercancel", "blur"]) $("seek").addEventListener(end, () => (dragged = false));
  $("download").addEventListener("click", () => downloadTake(player.take));
  $("captions-file").addEventListener("click", () => {
    const { take } = player;
    download(new Blob([subRip(take.captions)], { type: "application/x-subrip" }), fileName(take, "srt"));
  });
  player.addEventListener("change", changed);
  player.addEventListener("time", renderTime);
  player.addEventListener("sound", ({ detail: { samples, from } }) => note(player.take.peaks, samples, from, RATE));
  player.addEventListener("ended", () => say(texts.finished(Math.round(player.take.seconds))));
  window.addEventListener("resize", paint);
  document.addEventListener("translated", render);
}
