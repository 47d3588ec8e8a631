"""Online fine-tuning: a shadow network learns on the robot, and only what passes every gate is ever used."""
