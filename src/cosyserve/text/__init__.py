"""From what was written to what is said: clean, language, normalise, segments. `front_end` puts them in order."""
