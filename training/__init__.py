"""How the embedded models are made and checked. Nothing that a user runs imports it, and no wheel has it."""
