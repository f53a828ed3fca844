package sandbox

func actInside() int { return 0 }
