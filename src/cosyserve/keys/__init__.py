"""API keys: the main ones, set by the owner or generated, and named ones, each with limits of its own."""

from cosyserve.keys.key import MAIN as MAIN
from cosyserve.keys.key import Key as Key
from cosyserve.keys.keyring import expect_keys as expect_keys
from cosyserve.keys.main_key import accepted_keys as accepted_keys
from cosyserve.keys.main_key import made_key as made_key
from cosyserve.keys.main_key import makes_key as makes_key
