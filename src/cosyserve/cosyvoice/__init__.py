"""CosyVoice2 in pure torch, inference only: speech tokens, mel, waveform. Imports nothing of CosyServe."""
