"""What is known of models and of this machine before anything is loaded. No torch here."""
