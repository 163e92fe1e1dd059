"""Evaluators: what turns a parameter set into an evaluation."""
