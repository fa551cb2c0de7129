"""Does a model use the words of a house style? Places of terms in data, and what the model says there."""
