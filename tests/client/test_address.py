"""Addresses of servers, as users write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosyserve.client.address import address_of
from cosyserve.errors import CosyError


@pytest.mark.parametrize(
    ("written", "url"),
    [
        ("http://127.0.0.1:6008", "http://127.0.0.1:6008"),
        ("127.0.0.1:6008/", "http://127.0.0.1:6008"),
        ("https://speech.example.com", "https://speech.example.com"),
        ("https://example.com:443/a/speech/", "https://example.com/a/speech"),
        ("http://127.0.0.1:6008/v1", "http://127.0.0.1:6008"),
        ("http://127.0.0.1:6008/tts/v1/", "http://127.0.0.1:6008/tts"),
        ("HTTP://[::1]:80/语音", "http://[::1]/%E8%AF%AD%E9%9F%B3"),
    ],
)
def test_an_address_is_understood(written: str, url: str) -> None:
    assert address_of(written).url == url
    assert address_of(url).url == url


@pytest.mark.parametrize(
    "written", ["", "ftp://a", "http://", "http://a:b", "http://a:99999", "http://a/?q", "http://a#b", "http://a b"]
)
def test_what_is_no_address_says_so(written: str) -> None:
    with pytest.raises(CosyError, match="CS-SAY-004"):
        address_of(written)


def test_a_key_in_an_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(CosyError, match="COSYSERVE_API_KEY") as refused:
        address_of("http://user:sesame@127.0.0.1:6008")
    assert "sesame" not in str(refused.value)


@given(st.text())
def test_any_text_is_an_address_or_an_error(written: str) -> None:
    try:
        address = address_of(written)
    except CosyError as error:
        assert error.fault.id == "CS-SAY-004"
    else:
        assert address.prefix.isascii()
        assert not address.prefix.endswith("/")
