"""How good features are, without fine-tuning."""
