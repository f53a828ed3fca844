package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
)

// paces says up to which size, in bytes, a heap may grow by which part before it is
// collected again. Most builds end before their first collection, which would cost
// them more than the memory; what a build of very many files holds must not be
// doubled by garbage.
var paces = []struct {
	live    uint64
	percent int
}{
	{16 << 20, 200},
	{32 << 20, 100},
	{1 << 62, 25},
}

// paceMemory makes the collector follow paces, unless the user says how.
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

// arm has the pace looked at after the next collection, which finds garbage that is
// made for that.
func (p *pace) arm() {
	garbage := new([16]byte) // too large to share a place with other objects
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
