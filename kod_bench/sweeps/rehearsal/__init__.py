"""A sweep in small, before it starts: each of its shapes of trial, killed once and resumed."""
