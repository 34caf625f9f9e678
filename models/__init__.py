"""What a language model is and computes. Knows no HTTP and no training."""
