"""The commands of ``structmat``, one a file; each adds itself to the parser."""
