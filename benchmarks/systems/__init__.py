"""What systems of several models bring, beside one model."""
