"""Leaves: one family of structured matrices a file."""
