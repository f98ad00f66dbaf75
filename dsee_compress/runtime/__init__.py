"""What runs on a device, too: plain Python and numpy, which a bundle carries along."""
