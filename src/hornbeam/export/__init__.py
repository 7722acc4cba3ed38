"""Models as source code: in the three styles of Keras, and as plain PyTorch."""
