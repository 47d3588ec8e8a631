"""Where in the image the object is: a detector on the letter-boxed full image, and crops with their cameras."""
