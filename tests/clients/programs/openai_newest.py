"""OpenAI's newest client says a text: python openai_newest.py URL TEXT. Samples go to standard output."""

import sys

import openai


def main(url: str, text: str) -> None:
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0)
    assert client.models.retrieve("gpt-4o-mini-tts").id == "gpt-4o-mini-tts"
    with client.audio.speech.with_streaming_response.create(
        model="gpt-4o-mini-tts", voice="marin", input=text, response_format="pcm"
    ) as response:
        for piece in response.iter_bytes():
            sys.stdout.buffer.write(piece)


main(*sys.argv[1:])
