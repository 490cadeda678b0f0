"""What follows a layer, read from a run or from symbols."""
