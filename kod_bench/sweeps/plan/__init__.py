"""What a sweep will do, as data: its trials, and the names and records of their folders."""
