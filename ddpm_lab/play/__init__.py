"""The playground: a trained model in the browser, with controls for how it is sampled."""
