"""`rfgs bench`: methods compared over prompts, and memory measured without a GPU."""
