"""What makes a backup whole, and what it says where it arrives."""
