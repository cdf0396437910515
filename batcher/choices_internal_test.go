package batcher

// Choices are numbers that somebody chooses: chance, or a fuzzer.
type Choices interface {
	// IntN chooses from 0 to n-1.
	IntN(n int) int
}

// Written are choices read from bytes; behind their end all of them are 0.
type Written struct{ Left []byte }

// IntN reads as many bytes as n takes.
func (w *Written) IntN(n int) int {
	choice := 0
	for most := n - 1; most > 0 && len(w.Left) > 0; most >>= 8 {
		choice = choice<<8 | int(w.Left[0])
		w.Left = w.Left[1:]
	}
	return choice % n
}
