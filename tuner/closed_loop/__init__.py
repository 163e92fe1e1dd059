"""The closed loop: frames are reduced, rates watched, sets re-tuned, proved and taken back."""
