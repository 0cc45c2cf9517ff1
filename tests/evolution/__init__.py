"""The check of evolution."""
