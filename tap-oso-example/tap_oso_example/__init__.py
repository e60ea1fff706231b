"""Singer tap for the XKCD and GitHub APIs: the example to copy for a new HTTP source."""
