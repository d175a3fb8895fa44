"""Self-hosted CosyVoice text-to-speech: starts with one command, supervised so it stays up."""

__version__ = "0.1.0"
