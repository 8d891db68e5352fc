"""What runs next, and what is stopped early: decided by the results so far."""
