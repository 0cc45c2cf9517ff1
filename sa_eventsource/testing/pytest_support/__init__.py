"""What the fixtures of the pytest plugin do. The plugin itself imports nothing of it before a test asks for one of them."""
