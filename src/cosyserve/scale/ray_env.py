"""The environment that Ray has to find before it is imported. Nothing of Ray is imported here."""

import secrets


def ray_env() -> dict[str, str]:
    """For a Ray of one server alone.

    Whoever reaches Ray runs what he likes here, so other users of this machine are kept out by a token.
    """
    return {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        # Named after the systems where it is the default: what can listen on loopback does.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        # What replicas write comes through Ray into this server's log: all of it, and as it is.
        "RAY_DEDUP_LOGS": "0",
        "RAY_COLOR_PREFIX": "0",
    }
