package main

import (
	"runtime"
	"testing"
	"time"
)

func TestPercentFor(t *testing.T) {
	for live, want := range map[uint64]int{0: 200, 16 << 20: 200, 16<<20 + 1: 100, 200 << 20: 25, 1 << 63: 25} {
		if got := percentFor(live); got != want {
			t.Errorf("%d bytes: %d, want %d", live, got, want)
		}
	}
}

// A grown heap is collected more often from the next collection on; each collection
// adapts the pace.
func TestPace(t *testing.T) {
	defer paceMemory() // as it was, or nothing by GOGC
	p := &pace{percent: -1}
	p.arm()
	large := make([][]byte, 64)
	for i := range large {
		large[i] = make([]byte, 1<<20)
	}
	least := paces[len(paces)-1].percent
	await := func(least bool, percent int) {
		for (p.get() == percent) != least {
			runtime.GC()
			time.Sleep(time.Millisecond)
		}
	}
	await(true, least)
	runtime.KeepAlive(large)
	large = nil
	await(false, least)
}
