"""What a trained model answers, and how good that is."""
