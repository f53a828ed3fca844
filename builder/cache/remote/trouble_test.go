package remote

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/cairn-build/cairn/layer"
)

// troubled is a backend on which sending fails once.
type troubled struct {
	memory
	fail error
}

func (p *troubled) send(ctx context.Context, b []layer.Descriptor, from map[layer.Digest]Source) error {
	if err := p.fail; err != nil {
		p.fail = nil
		return err
	}
	return p.memory.send(ctx, b, from)
}

func TestTroubleLosesNothing(t *testing.T) {
	l := newLab()
	step := func(name string) Content { return l.content(l.step(l.layer(t, name, 1), name, "", 1)) }
	p := &troubled{}
	if err := write(t.Context(), p, Location{}, step("old")); err != nil {
		t.Fatal(err)
	}
	p.fail = errors.New("the network is down")
	err := write(t.Context(), p, Location{}, step("new"))
	doc, derr := decode(p.img.Config, len(p.img.Layers))
	if derr != nil {
		t.Fatal(derr)
	}
	has := map[string]bool{}
	for _, r := range doc.Records {
		has[r.Name] = true
	}
	if !has["old"] {
		t.Errorf("after %v the cache has %v: what others wrote is lost", err, has)
	}
}

func TestIndexesAreBounded(t *testing.T) {
	day := int64(1000)
	s := state{indexes: map[layer.Digest]indexed{}}
	for i := range 30000 {
		s.indexes[layer.FromBytes(fmt.Append(nil, i))] = indexed{data: make([]byte, smallIndex), used: day - int64(i%20)}
	}
	s = merge(s, state{indexes: map[layer.Digest]indexed{}}, day)
	doc, layers := s.document()
	config, err := configOf(field, doc, layers)
	if err != nil {
		t.Fatal(err)
	}
	got, err := decode(config, len(layers))
	if err != nil || len(config) > 8<<20 {
		t.Fatalf("config of %d bytes: %v", len(config), err)
	}
	if len(got.Indexes) == 0 || slices.ContainsFunc(got.Indexes, func(x indexRef) bool { return x.Used < day-1 }) {
		t.Errorf("%d indexes are kept, want those of the last two days", len(got.Indexes))
	}
}
