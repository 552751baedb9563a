"""What a person sees: progress bars and terminal tables; nothing here computes what it shows."""
