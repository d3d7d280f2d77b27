"""Images, their crops and their order."""
