"""The platform behind `aimass up`: REST, keys, jobs, and what puts the rooms together."""
