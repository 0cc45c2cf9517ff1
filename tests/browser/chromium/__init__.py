"""The pages in a real web browser."""
