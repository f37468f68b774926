"""What people see of a run: progress, where it stands, and its curves."""
