"""A loaded model: how it is loaded, its forward passes, and the matrix that its softmax reads."""
