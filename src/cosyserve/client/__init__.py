"""Asks a running server, as any client does, with the standard library alone."""
