"""Local services for trying, testing and measuring OSO Connect."""
