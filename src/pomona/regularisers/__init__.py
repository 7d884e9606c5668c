"""Pulls on weights or gates between decisions."""
