"""What a person sees of a sweep: the board while it runs, its status at any time."""
