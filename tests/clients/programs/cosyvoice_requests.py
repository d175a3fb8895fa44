"""What CosyVoice's own client.py sends for a voice of its model: python cosyvoice_requests.py URL TEXT.

A form with GET, by the library that it uses. Samples go to standard output.
"""

import sys

import requests


def main(url: str, text: str) -> None:
    form = {"tts_text": text, "spk_id": "中文女"}
    response = requests.request("GET", f"{url}/inference_sft", data=form, stream=True, timeout=300)
    response.raise_for_status()
    for piece in response.iter_content(chunk_size=16_000):
        sys.stdout.buffer.write(piece)


main(*sys.argv[1:])
