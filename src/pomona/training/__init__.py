"""The plain training loop, its checkpoints, and what a recovery or a study trains with."""
