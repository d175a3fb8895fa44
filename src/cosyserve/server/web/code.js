// What is on screen, as a program asks for it.

import { draft, settings } from "./draft.js";
import { $, element, keep, kept, say } from "./dom.js";
import { bodyOf } from "./server.js";
import { state } from "./status.js";
import { texts } from "./texts.js";

const base = () => new URL(".", location.href).href;
const inShell = (words) => `'${words.replaceAll("'", `'\\''`)}'`;

function curl(body, file) {
  const key = state.needs_key ? `  -H 'Authorization: Bearer KEY' \\\n` : "";
  const json = inShell(JSON.stringify(body, null, 2));
  return `curl ${inShell(`${base()}v1/audio/speech`)} \\\n${key}  -H 'Content-Type: application/json' \\\n  -d ${json} \\\n  -o ${file}\n`;
}

// With OpenAI's library, which knows no seed. JSON's strings and numbers are Python's, too.
function python(body, file) {
  const { seed, ...known } = body;
  const fields = Object.entries(known).map(([name, value]) => `    ${name}=${JSON.stringify(value)},`);
  return `from openai import OpenAI  # pip install openai

client = OpenAI(base_url=${JSON.stringify(`${base()}v1`)}, api_key="KEY")
with client.audio.speech.with_streaming_response.create(
    model="tts-1",
${fields.join("\n")}
    extra_body={"seed": ${seed}},
) as response:
    response.stream_to_file("${file}")
`;
}

function javascript(body, file) {
  const key = state.needs_key ? `, Authorization: "Bearer KEY"` : "";
  return `import { writeFile } from "node:fs/promises";

const response = await fetch(${JSON.stringify(`${base()}v1/audio/speech`)}, {
  method: "POST",
  headers: { "Content-Type": "application/json"${key} },
  body: JSON.stringify(${JSON.stringify(body, null, 2).replaceAll("\n", "\n  ")}),
});
if (!response.ok) throw new Error(await response.text());
await writeFile("${file}", Buffer.from(await response.arrayBuffer()));
`;
}

const WRITERS = { curl, python, javascript };

function render() {
  const now = settings();
  $("code").textContent = WRITERS[$("code-language").value](bodyOf(now), `speech.${now.format}`);
}

// Pages by plain HTTP have no clipboard of their own.
async function copy() {
  const words = $("code").textContent;
  try {
    await navigator.clipboard.writeText(words);
  } catch {
    const field = element("textarea", { "aria-hidden": "true" }, words);
    document.body.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
    $("copy").focus();
  }
  say(texts.copied);
}

export function startCode() {
  $("code-language").value = kept("code") ?? "curl";
  $("code-language").addEventListener("change", () => {
    keep("code", $("code-language").value);
    render();
  });
  $("copy").addEventListener("click", copy);
  draft.addEventListener("change", render);
  render();
}
