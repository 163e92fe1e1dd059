"""Writing the recommended set for other programs."""
