package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
)

// paces contains the values of GOGC for sizes of the live heap, in bytes. Small heaps are
// collected rarely: most builds end before a collection is worth its time. Large heaps,
// as of builds with very many files, are collected often, so that garbage does not double
// the memory.
var paces = []struct {
	live    uint64
	percent int
}{
	{16 << 20, 200},
	{32 << 20, 100},
	{1 << 62, 25},
}

// paceMemory makes the garbage collector follow paces, unless GOGC is set.
func paceMemory() {
	if os.Getenv("GOGC") != "" {
		return
	}
	debug.SetGCPercent(paces[0].percent)
	p := &pace{percent: paces[0].percent}
	p.arm()
}

type pace struct {
	mu      sync.Mutex
	percent int
}

func (p *pace) get() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.percent
}

// arm adapts the pace after the next collection, which frees an object allocated for
// that.
func (p *pace) arm() {
	garbage := new([16]byte) // too large for the tiny allocator
	runtime.AddCleanup(garbage, func(p *pace) {
		p.adapt()
		p.arm()
	}, p)
}

func (p *pace) adapt() {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	p.mu.Lock()
	defer p.mu.Unlock()
	if want := percentFor(live[0].Value.Uint64()); want != p.percent {
		p.percent = want
		debug.SetGCPercent(want)
	}
}

func percentFor(live uint64) int {
	for _, p := range paces {
		if live <= p.live {
			return p.percent
		}
	}
	return paces[len(paces)-1].percent
}
