"""CosyVoice2 in pure torch, inference only: speech tokens, mel, waveform. Of CosyServe it knows the errors alone."""
