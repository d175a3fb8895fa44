// OpenAI's client for Node says a text: node speak.mjs URL TEXT. Samples go to standard output.
import OpenAI from "openai";

const [url, text] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "unused", maxRetries: 0 });
await client.models.retrieve("tts-1-1106");
const speech = await client.audio.speech.create({
  model: "tts-1-1106",
  voice: "alloy",
  input: text,
  response_format: "pcm",
});
for await (const piece of speech.body) process.stdout.write(piece);
