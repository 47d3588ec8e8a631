"""Which images are learnt from: what judges a reference, alone and with many others, and what is kept of an image."""
