"""Head-to-head measurements: this server and CNCF distribution, side by side on one machine."""
