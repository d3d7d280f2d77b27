"""Weights in and out: safely, whole, in many formats."""
