"""Models of sound: speech encoders, transcription, codecs, speech and music generation."""
