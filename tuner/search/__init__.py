"""The search: what proposes the next parameter set."""
