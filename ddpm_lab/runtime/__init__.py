"""What a process needs to know of itself: the other processes, the device, the machine, random numbers, the terminal."""
