"""Whether pictures of emoji are what was asked for."""
