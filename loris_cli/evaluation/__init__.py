"""Whether the music keeps time with the body, and how real it sounds."""
