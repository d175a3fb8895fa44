"""CosyVoice2 text-to-speech on a rented or own GPU: up with one command, and staying up."""

__version__ = "0.1.0"
