"""How streams end: closed, archived, brought back."""
