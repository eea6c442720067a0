"""Films of episodes, with what is known of each frame drawn on."""
