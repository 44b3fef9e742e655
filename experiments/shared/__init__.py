"""What the studies of several papers have in common."""
