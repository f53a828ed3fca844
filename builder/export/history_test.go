package export

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/cairn-build/cairn/layer"
)

func at(seconds int64) time.Time { return time.Unix(seconds, 0).UTC() }

// history has an entry for each letter: L with a layer, E without.
func history(kinds string) (all []ocispec.History) {
	for _, k := range kinds {
		all = append(all, ocispec.History{EmptyLayer: k == 'E'})
	}
	return all
}

func TestSetTimes(t *testing.T) {
	const now = 99
	for _, test := range []struct {
		name, inherited, added string
		layers                 []int64 // times of all layers; 0 is unknown
		want                   []int64
	}{
		{"no layer", "", "EE", nil, []int64{now, now}},
		{"nothing", "L", "", []int64{1}, nil},
		{"one layer", "", "L", []int64{5}, []int64{5}},
		{"before the first layer", "", "EEL", []int64{5}, []int64{5, 5, 5}},
		{"after a layer", "", "LEE", []int64{5}, []int64{5, 5, 5}},
		{"around", "", "ELELE", []int64{5, 7}, []int64{5, 5, 5, 7, 7}},
		{"inherited layers are skipped", "LEL", "ELE", []int64{1, 2, 5}, []int64{5, 5, 5}},
		{"only metadata on a base", "LL", "EE", []int64{0, 0}, []int64{now, now}},
		{"unknown after known", "", "LLE", []int64{5, 0}, []int64{5, 5, 5}},
		{"unknown first", "", "ELL", []int64{0, 6}, []int64{6, 6, 6}},
		{"fewer layers than entries", "", "LL", []int64{5}, []int64{5, 5}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var layers []time.Time
			for _, l := range test.layers {
				if l == 0 {
					layers = append(layers, time.Time{})
				} else {
					layers = append(layers, at(l))
				}
			}
			added := history(test.added)
			setTimes(history(test.inherited), added, layers, at(now))
			var got []int64
			for _, e := range added {
				got = append(got, e.Created.Unix())
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// baseImage has layers and a history of its own.
func baseImage(t *testing.T, layers int, history []ocispec.History) *layer.Image {
	t.Helper()
	created := at(1)
	var cfg dockerspec.DockerOCIImage
	cfg.Created, cfg.History = &created, history
	raw, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return &layer.Image{Config: raw, Layers: make([]layer.Descriptor, layers)}
}

// show lists the entries of a history: their time and, of a layer that the base's
// history left out, its text.
func show(all []ocispec.History) (out []string) {
	for _, e := range all {
		text := "-"
		if e.Created != nil {
			text = fmt.Sprint(e.Created.Unix())
		}
		if e.CreatedBy != "" {
			text += " " + e.CreatedBy
		}
		out = append(out, text)
	}
	return out
}

func TestSetHistory(t *testing.T) {
	epoch := int64(7)
	first := at(1)
	inherited := []ocispec.History{{Created: &first}, {Created: &first, EmptyLayer: true}}
	for _, test := range []struct {
		name    string
		img     Image
		layers  []time.Time
		want    []string
		created int64
	}{
		{"from scratch", Image{}, []time.Time{at(5)}, []string{"5", "5"}, 5},
		{"with an epoch", Image{Epoch: &epoch}, []time.Time{at(5)}, []string{"7", "7"}, 7},
		{"on a base", Image{Base: baseImage(t, 1, inherited)}, []time.Time{at(1), at(5)}, []string{"1", "1", "5", "5"}, 5},
		{"on a base, with an epoch", Image{Base: baseImage(t, 1, inherited), Epoch: &epoch}, []time.Time{at(1), at(5)}, []string{"1", "1", "7", "7"}, 7},
		{"on a base that hides layers", Image{Base: baseImage(t, 3, inherited)}, []time.Time{at(1), at(2), at(3), at(5)},
			[]string{"1", "1", "1 layer of the base image", "1 layer of the base image", "5", "5"}, 5},
	} {
		t.Run(test.name, func(t *testing.T) {
			var cfg dockerspec.DockerOCIImage
			if test.img.Base != nil {
				cfg.History = append(cfg.History, inherited...)
			}
			cfg.History = append(cfg.History, history("LE")...)
			if err := test.img.setHistory(&cfg, test.layers, at(99)); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, show(cfg.History)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if cfg.Created == nil || cfg.Created.Unix() != test.created {
				t.Errorf("created %v, want %d", cfg.Created, test.created)
			}
		})
	}
	bad := Image{Base: &layer.Image{Config: []byte("{")}}
	if err := bad.setHistory(&dockerspec.DockerOCIImage{}, nil, at(1)); err == nil {
		t.Error("a base image whose config is not JSON is accepted")
	}
}

// The entry of a merged layer is the only one with a layer, beside those of the base.
func TestSquashedHistory(t *testing.T) {
	kinds := func(all []ocispec.History) (text string) {
		for _, e := range all {
			if e.EmptyLayer {
				text += "E"
			} else {
				text += "L"
			}
		}
		return text
	}
	for _, test := range []struct {
		squash           Squash
		inherited, added string
		want             string
		wantInherited    int
	}{
		{0, "LE", "LL", "LELL", 2},
		{SquashNew, "LE", "LEL", "LEEEEL", 2},
		{SquashNew, "LE", "LE", "LELE", 2},
		{SquashNew, "", "LL", "EEL", 0},
		{SquashNew, "LL", "E", "LLE", 2},
		{SquashAll, "LE", "LE", "EEL", 0},
		{SquashAll, "LL", "E", "EL", 0},
		{SquashAll, "L", "E", "LE", 1},
	} {
		img := &Image{Squash: test.squash}
		h := append(history(test.inherited), history(test.added)...)
		got, inherited := img.squashed(h, len(test.inherited))
		if kinds(got) != test.want || inherited != test.wantInherited {
			t.Errorf("%d, %q %q: %q with %d inherited, want %q with %d", test.squash, test.inherited, test.added, kinds(got), inherited, test.want, test.wantInherited)
		}
	}
}
