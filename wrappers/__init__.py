"""Everything that touches frames and outside programs."""
