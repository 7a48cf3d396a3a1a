"""What is trained: one folder a model, each framework's side of it one file."""
