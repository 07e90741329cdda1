"""What commands share: configurations, run folders, model folders and progress bars."""
