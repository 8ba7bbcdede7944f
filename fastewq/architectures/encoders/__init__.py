"""Text encoders: BERT and its relatives, DeBERTa, encoders with rotary positions."""
