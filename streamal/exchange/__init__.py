"""Export and import of labels: the training log as files for other tools, and replies from such files."""
