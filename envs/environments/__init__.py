"""The tuning task as Gymnasium environments, and what an episode of them tunes."""
