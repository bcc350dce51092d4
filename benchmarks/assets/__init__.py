"""What makes the files that ship with the lab or its pages: pictures, and the weights of `fashion_cnn`."""
