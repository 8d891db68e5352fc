"""What knows Ray: sessions, trials in its processes, capacity, and what to do when it dies."""
