"""Tests; a package, so that they share modules and their worker processes find them."""
