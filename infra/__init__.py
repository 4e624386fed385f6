"""How day2 gets onto AWS, or onto the local one: the template, the packages, the pins."""
