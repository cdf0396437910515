package batcher_test

func childArg() string { return "" }
func child()           {}
