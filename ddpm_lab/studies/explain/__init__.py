"""Why two values of the main metric differ: what can differ is changed in one of them, alone and in pairs."""
