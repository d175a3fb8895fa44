"""The Wyoming protocol, by which Home Assistant has a text spoken: events over TCP, on a port of their own.

Its library reads lines and lengths without any bound, so the events are read here; the tests speak to it with that
library. The protocol has no key: who may connect is decided by address.
"""
