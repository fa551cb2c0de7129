"""What is measured of one prediction and of an embedding matrix: pure functions of tensors, one file a quantity."""
