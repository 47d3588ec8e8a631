"""Where in the picture the object is: a detector on the letter-boxed full picture, and crops with their cameras."""
