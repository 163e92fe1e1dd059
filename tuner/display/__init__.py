"""What a session shows while it runs."""
