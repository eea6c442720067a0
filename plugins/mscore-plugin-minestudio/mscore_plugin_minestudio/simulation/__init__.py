"""Playing Minecraft: the simulator of the pip package ``minestudio`` as an environment."""
