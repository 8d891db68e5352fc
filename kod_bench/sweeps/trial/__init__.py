"""One trial, from its data to its rows; nothing of Ray."""
