"""The detector: CrystFEL geometry files, panels, pixel positions and masks."""
