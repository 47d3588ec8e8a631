"""The shadow network's steps: what is to be learnt of real images, and what must be answered as before."""
