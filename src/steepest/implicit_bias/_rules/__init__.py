"""What each optimizer is known to do, one file per rule."""
