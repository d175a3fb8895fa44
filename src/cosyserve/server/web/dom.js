// Small things that every part of the page uses.

export const $ = (id) => document.getElementById(id);

// An element with properties and children: element("button", { type: "button", "aria-label": name }, "×").
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false && value != null) made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

// Says something to who listens to the page, politely. The same words are said again only if the text has changed.
export function say(words) {
  $("live").textContent = $("live").textContent === words ? `${words}\u00a0` : words;
}

// Shows words in an element, or hides it where there are none.
export function show(id, words) {
  $(id).textContent = words ?? "";
  $(id).hidden = !words;
}

// 75.2 → "1:15"
export function clock(seconds) {
  const whole = Math.floor(seconds);
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const two = (number) => String(number).padStart(2, "0");
  return hours ? `${hours}:${two(minutes)}:${two(rest)}` : `${minutes}:${two(rest)}`;
}

export function download(blob, name) {
  const url = URL.createObjectURL(blob);
  element("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

// What is kept in the browser; nothing where that is forbidden.
export function kept(name) {
  try {
    return localStorage.getItem(`cosyserve.${name}`);
  } catch {
    return null;
  }
}

export function keep(name, value) {
  try {
    if (value === null) localStorage.removeItem(`cosyserve.${name}`);
    else localStorage.setItem(`cosyserve.${name}`, value);
  } catch {
    // Full or forbidden: the page works without.
  }
}

export const reducedMotion = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
