"""The environment that has to be set before Ray is imported. Imports nothing of Ray."""

import secrets


def ray_env() -> dict[str, str]:
    """For a Ray that belongs to one server. A process that reaches Ray can run any code, so a token keeps other users
    of this machine out."""
    return {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        # Named after the systems where it is the default: what can listen on loopback does.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        # Else replicas get little of a processor that others want too, and they are what speaks.
        "RAY_worker_niceness": "0",
        # What replicas write comes through Ray into this server's log: all of it, and as it is.
        "RAY_DEDUP_LOGS": "0",
        "RAY_COLOR_PREFIX": "0",
    }
