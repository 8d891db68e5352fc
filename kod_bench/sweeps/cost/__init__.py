"""What a sweep would cost, before it starts: timed on a few steps."""
