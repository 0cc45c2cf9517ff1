"""How classes are declared: what works as for any mapped class, and what is refused."""
