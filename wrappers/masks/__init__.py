"""Which pixels are masked: by the geometry, by mask files, by the frames themselves."""
