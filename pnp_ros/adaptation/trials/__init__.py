"""What new weights must prove before they are used: on held-back images, and on renders that never change."""
