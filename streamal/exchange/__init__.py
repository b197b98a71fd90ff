"""Labels out and in: the training log as files for other tools, and answers in the same formats back."""
