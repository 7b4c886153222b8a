"""What a run is asked for, its folder, its record, and the whole way from a sentence to its files."""
