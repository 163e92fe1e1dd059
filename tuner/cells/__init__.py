"""Finding the unit cell from the frames, and saying what was found."""
